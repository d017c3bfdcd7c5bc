"""Compare the throughput of cai as a client of a vLLM server with that of ``vllm bench serve``.

    pip install "vllm[bench]"
    vllm serve cai/reference/model --served-model-name reference --port 8000
    python benchmarks/server_share.py http://127.0.0.1:8000/v1#reference
        [--vllm vllm] [--prompts 1000] [--rounds 3]

Both send the same conversations, greedily, with the same maximum of tokens and of concurrent
requests, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.backends.protocol import Completion, GenerateRequest
from cai.backends.server import ServerBackend, ServerSettings
from cai.data.prompts import read_prompts
from cai.records import Prompt
from cai.shipped import reference_model

ROOT = Path(__file__).parents[1]


class Throughput(NamedTuple):
    """Requests and generated tokens per second."""

    requests: float
    tokens: float


def measure_vllm_bench(
    options: argparse.Namespace, prompts: Sequence[Prompt], concurrency: int
) -> Throughput:
    """Measure the throughput of ``vllm bench serve``."""
    url, _, model = options.server.partition("#")
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "prompts.jsonl"
        dataset.write_text("".join(json.dumps({"prompt": p.text}) + "\n" for p in prompts))
        arguments = {
            "--backend": "openai-chat",
            "--base-url": url.removesuffix("/v1"),
            "--endpoint": "/v1/chat/completions",
            "--model": model,
            "--tokenizer": reference_model(),
            "--dataset-name": "custom",
            "--dataset-path": dataset,
            "--custom-output-len": options.tokens,
            "--num-prompts": len(prompts),
            "--max-concurrency": concurrency,
            "--temperature": 0,
            "--result-dir": folder,
            "--result-filename": "result.json",
        }
        command = [options.vllm, "bench", "serve", "--disable-shuffle", "--save-result"]
        for flag, value in arguments.items():
            command += [flag, str(value)]
        completed = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            check=False,
        )
        if completed.returncode:
            sys.exit(f"vllm bench serve: {completed.stderr[-600:]}")
        result: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
    if result["completed"] != len(prompts):
        sys.exit(f"vllm bench serve: only {result['completed']} of {len(prompts)} answered")
    return Throughput(result["request_throughput"], result["output_throughput"])


def measure_cai(
    options: argparse.Namespace, prompts: Sequence[Prompt], concurrency: int
) -> Throughput:
    """Measure the throughput of a server backend, without its first request."""
    requests = [
        GenerateRequest(prompt.messages, seed=0, temperature=0, max_tokens=options.tokens)
        for prompt in prompts
    ]
    backend = ServerBackend(options.server, settings=ServerSettings(concurrency=concurrency))
    list(backend.respond(requests[:1]))
    started = time.perf_counter()
    responses = [response for _, response in backend.respond(requests)]
    seconds = time.perf_counter() - started
    completions = [
        response
        for response in responses
        if isinstance(response, Completion) and response.finish_reason in ("stop", "length")
    ]
    if len(completions) != len(requests):
        sys.exit(f"cai: only {len(completions)} of {len(requests)} requests were answered")
    tokens = sum(completion.tokens_out for completion in completions)
    return Throughput(len(completions) / seconds, tokens / seconds)


def compare(
    options: argparse.Namespace, prompts: Sequence[Prompt], concurrency: int
) -> dict[str, Any]:
    """Measure both clients in turn; return medians, and the median share in tokens per second."""
    measure_cai(options, prompts, concurrency)  # so that the server has read the prompts before
    cai: list[Throughput] = []
    vllm_bench: list[Throughput] = []
    for _ in range(options.rounds):
        vllm_bench.append(measure_vllm_bench(options, prompts, concurrency))
        cai.append(measure_cai(options, prompts, concurrency))
    result: dict[str, Any] = {"prompts": len(prompts), "concurrency": concurrency}
    for client, rounds in (("cai", cai), ("vllm_bench", vllm_bench)):
        requests = statistics.median(throughput.requests for throughput in rounds)
        tokens = statistics.median(throughput.tokens for throughput in rounds)
        result[f"{client}_requests_per_second"] = round(requests, 1)
        result[f"{client}_tokens_per_second"] = round(tokens, 1)
    shares = [ours.tokens / theirs.tokens for ours, theirs in zip(cai, vllm_bench, strict=True)]
    return {**result, "share": round(statistics.median(shares), 3)}


def read_training_prompts(count: int) -> list[Prompt]:
    """Read the training prompts of the quick start, repeated where there are too few."""
    prompts: list[Prompt] = []
    for kind in ("red_team", "benign"):
        prompts += read_prompts(ROOT / f"examples/prompts/train_{kind}.jsonl", kind)
    return (prompts * (count // len(prompts) + 1))[:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", help="http://host:port/v1#model")
    parser.add_argument("--vllm", default="vllm", help="the command vllm")
    parser.add_argument("--prompts", type=int, default=1000, help="number of prompts")
    parser.add_argument("--tokens", type=int, default=90, help="maximum tokens of an answer")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prompts = read_training_prompts(options.prompts)
    for concurrency in options.concurrency:
        print(json.dumps(compare(options, prompts, concurrency)), flush=True)


if __name__ == "__main__":
    main()
