"""Measure tokens per second of decoding, by the length of the answers.

    python benchmarks/decoding.py [reference | MODEL] [--rows 32] [--prompt 20] [--lengths 50 1000]
        [--dtype float32] [--threads 1] [--repeats 3]

All answers of a batch have the same length, since nothing ends them. Lengths are measured in turn,
and medians are printed: one line of JSON per length, and the tokens per second of the last length
as a share of those of the first.

Each token reads the keys and values of all tokens before it. ``limit`` is what tokens per second
would be if longer answers cost nothing more than to read these once, at the rate at which this
machine sums up numbers in memory. Seconds are CPU seconds on a CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from cai.models.cache import cache_argument, cached, new_cache
from cai.models.decode import Decoded, Stops, decode
from cai.models.decoding_traits import decoding_traits
from cai.models.load import load_language_model
from cai.models.packing.padding import padding_id

T = TypeVar("T")
FIRST_TOKEN = 20
"""Tokens below this may be special."""
BYTES_OF_FLOAT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="reference")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=20, help="tokens of the longest prompt")
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype) if options.dtype else None
    model, tokenizer = load_language_model(options.model, dtype=dtype)
    draw = random.Random(0)
    lengths = [options.prompt - i % 4 for i in range(options.rows)]
    prompts = [[draw.randrange(FIRST_TOKEN, 1000) for _ in range(n)] for n in lengths]
    decoding_traits(model)
    per_token = cache_bytes(model)

    def generate(max_tokens: int) -> list[Decoded]:
        return decode(
            model,
            prompts,
            max_tokens=max_tokens,
            temperature=1.0,
            seeds=range(options.rows),
            stops=Stops(frozenset()),
            pad_id=padding_id(tokenizer),
        )

    # seconds of a step by length, and of reading the cache once when it is half grown
    steps: dict[int, list[float]] = {length: [] for length in options.lengths}
    reads: dict[int, list[float]] = {length: [] for length in options.lengths}
    texts = {}
    for _ in range(options.repeats):
        for length in options.lengths:
            texts[length], seconds = timed(model, partial(generate, length))
            steps[length].append(seconds / length)
            held = options.rows * (options.prompt + length // 2) * per_token
            values = torch.ones(held // BYTES_OF_FLOAT, device=model.device)
            reads[length].append(timed(model, values.sum)[1])

    first, *_, last = options.lengths
    for length in options.lengths:
        step, read = median(steps[length]), median(reads[length])
        limit = median(steps[first]) - median(reads[first]) + read
        tokens = str([row.tokens for row in texts[length]]).encode()
        result = {
            "model": options.model,
            "dtype": str(model.dtype).removeprefix("torch."),
            "rows": options.rows,
            "length": length,
            "tokens_per_second": round(options.rows / step),
            "limit": round(options.rows / limit),
            "tokens": hashlib.sha256(tokens).hexdigest()[:8],
        }
        print(json.dumps(result), flush=True)
    share = median(steps[first]) / median(steps[last])
    print(json.dumps({"last_to_first": round(share, 3)}))


def timed(model: PreTrainedModel, function: Callable[[], T]) -> tuple[T, float]:
    """Call a function; return its result and the seconds that it took."""
    if model.device.type == "cpu":
        start = time.process_time()
        return function(), time.process_time() - start
    torch.accelerator.synchronize()
    start = time.perf_counter()
    result = function()
    torch.accelerator.synchronize()
    return result, time.perf_counter() - start


def cache_bytes(model: PreTrainedModel) -> int:
    """Bytes of keys and values that a model keeps for a token of a row."""
    ids = torch.tensor([[FIRST_TOKEN]], device=model.device)
    layers = model(input_ids=ids, **cached(model, new_cache(model)))[cache_argument(model)].layers
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)


if __name__ == "__main__":
    main()
