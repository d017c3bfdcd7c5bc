"""Measure tokens per second of decoding, by the length of the answers.

    python benchmarks/decoding.py [reference | MODEL] [--rows 32] [--prompt 20] [--lengths 50 1000]
        [--dtype float32] [--threads 1] [--repeats 2]

All answers of a batch have the same length, since nothing ends them. Prints one line of JSON per
length, and the tokens per second of the last length as a share of those of the first. Seconds are
CPU seconds on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time

import torch

from cai.models.decode import Decoded, Stops, decode
from cai.models.decoding_traits import decoding_traits
from cai.models.load import load_language_model
from cai.models.packing.padding import padding_id

FIRST_TOKEN = 20
"""Tokens below this may be special."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="reference")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=20, help="tokens of the longest prompt")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype) if options.dtype else None
    model, tokenizer = load_language_model(options.model, dtype=dtype)
    draw = random.Random(0)
    lengths = [options.prompt - i % 4 for i in range(options.rows)]
    prompts = [[draw.randrange(FIRST_TOKEN, 1000) for _ in range(n)] for n in lengths]
    decoding_traits(model)

    def run(max_tokens: int) -> tuple[float, list[Decoded]]:
        start = time.process_time() if model.device.type == "cpu" else time.perf_counter()
        decoded = decode(
            model,
            prompts,
            max_tokens=max_tokens,
            temperature=1.0,
            seeds=range(options.rows),
            stops=Stops(frozenset()),
            pad_id=padding_id(tokenizer),
        )
        end = time.process_time() if model.device.type == "cpu" else time.perf_counter()
        return end - start, decoded

    rates = []
    for length in options.lengths:
        runs = [run(length) for _ in range(options.repeats)]
        rates.append(options.rows * length / min(seconds for seconds, _ in runs))
        tokens = str([row.tokens for row in runs[0][1]]).encode()
        result = {
            "model": options.model,
            "dtype": str(model.dtype).removeprefix("torch."),
            "rows": options.rows,
            "length": length,
            "tokens_per_second": round(rates[-1]),
            "tokens": hashlib.sha256(tokens).hexdigest()[:8],
        }
        print(json.dumps(result), flush=True)
    print(json.dumps({"last_to_first": round(rates[-1] / rates[0], 3)}))


if __name__ == "__main__":
    main()
