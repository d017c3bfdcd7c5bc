"""Measure how often a vLLM server finds the beginning of a judge's request in its prefix cache.

    vllm serve MODEL --served-model-name judge --port 8000 --block-size 16
    python benchmarks/prefix_cache.py http://127.0.0.1:8000/v1#judge
        [--method critique] [--pairs 64] [--principles 16] [--concurrency 16]

Every pair is judged by every principle. The requests are sent in the order of cai
and in random order, each about pairs of its own, so that neither finds what the other has read. In
a long run the pairs do not fit into the server's cache: ``--num-gpu-blocks-override`` makes the
cache of a small model as small as that of a large one.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from cai.backends import server as server_module
from cai.backends.prefix_order import prefix_order
from cai.backends.protocol import GenerateRequest, Request
from cai.backends.server import ServerBackend, ServerSettings
from cai.constitution import load_constitution
from cai.data.prompts import read_prompts
from cai.feedback.judge_methods import JUDGE_METHODS, judge_method
from cai.records import Comparison, Message
from cai.templates import DEFAULT

ROOT = Path(__file__).parents[1]
COUNTERS = ("prefix_cache_queries", "prefix_cache_hits")
"""Tokens that vLLM looked up in its prefix cache, and those that it found."""


def read_counters(url: str) -> dict[str, float]:
    """Read the counters of the prefix cache."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        text = response.read().decode()
    return {
        name: sum(map(float, re.findall(rf"^vllm:{name}_total\S* (\S+)$", text, re.MULTILINE)))
        for name in COUNTERS
    }


def judge_requests(comparisons: Sequence[Comparison], options: argparse.Namespace) -> list[Request]:
    """Return the requests about every pair by every principle, as ``judge`` makes them."""
    loaded = load_constitution(options.constitution)
    method = judge_method(options.method)
    names = list(loaded.used_for("judge"))[: options.principles]
    chosen = [loaded.principles[name] for name in names]
    return [
        request
        for comparison in comparisons
        for principle in chosen
        for request in method.requests(comparison, principle, DEFAULT)
    ]


def make_pairs(count: int, words: int) -> list[Comparison]:
    """Make pairs of answers of a typical length from the texts of the training prompts."""
    prompts = [
        prompt
        for kind in ("red_team", "benign")
        for prompt in read_prompts(ROOT / f"examples/prompts/train_{kind}.jsonl", kind)
    ]
    draw = random.Random(0)
    pool = " ".join(prompt.text for prompt in prompts).split()
    answers = [
        " ".join(pool[start : start + words])
        for start in (draw.randrange(len(pool) - words) for _ in range(2 * count))
    ]
    return [
        Comparison.of(prompts[i % len(prompts)], answers[2 * i], answers[2 * i + 1])
        for i in range(count)
    ]


def _random_order(texts: Sequence[str]) -> list[int]:
    return random.Random(0).sample(range(len(texts)), len(texts))


def measure(
    options: argparse.Namespace, comparisons: Sequence[Comparison], *, is_random: bool
) -> dict[str, Any]:
    """Send the requests about some pairs, and return the hit rate and the speed."""
    requests = judge_requests(comparisons, options)
    url = options.server.partition("#")[0]
    backend = ServerBackend(
        options.server, settings=ServerSettings(concurrency=options.concurrency)
    )
    warm = GenerateRequest((Message(role="user", content="Hello."),), seed=0, max_tokens=1)
    list(backend.respond([warm]))
    order = _random_order if is_random else prefix_order
    with mock.patch.object(server_module, "prefix_order", order):
        before, started = read_counters(url), time.perf_counter()
        responses = [response for _, response in backend.respond(requests)]
        seconds, after = time.perf_counter() - started, read_counters(url)
    looked_up, found = (after[name] - before[name] for name in COUNTERS)
    return {
        "method": options.method,
        "order": "random" if is_random else "by prefix",
        "requests": len(responses),
        "failed": sum(response.finish_reason == "failed" for response in responses),
        "tokens": sum(response.tokens_in for response in responses),
        "hit_rate": round(found / looked_up, 3) if looked_up else 0.0,
        "judgments_per_second": round(len(responses) / 2 / seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", help="http://host:port/v1#model")
    parser.add_argument("--constitution", default="harmless")
    parser.add_argument("--method", choices=JUDGE_METHODS, default="critique")
    parser.add_argument("--pairs", type=int, default=64, help="number of pairs in each order")
    parser.add_argument("--words", type=int, default=120, help="words of an answer")
    parser.add_argument("--principles", type=int, default=16)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    pairs = make_pairs(2 * options.pairs, options.words)
    for is_random, own in ((True, pairs[: options.pairs]), (False, pairs[options.pairs :])):
        print(json.dumps(measure(options, own, is_random=is_random)), flush=True)


if __name__ == "__main__":
    main()
