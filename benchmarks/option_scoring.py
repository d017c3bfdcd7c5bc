"""Score options after prompts that share a long system prompt: memory and time of each way.

    python benchmarks/option_scoring.py MODEL [--pairs 400] [--system 60] [--answer 60]

Prints, for rows read in plain batches and for rows that share prefixes where that pays, the largest
forward pass in tokens, the CPU time, and the peak memory of the process. Each way runs in its own
process, so that one does not pay for the other.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time

import torch

from cai.models.load import default_micro_batch_tokens, load_language_model
from cai.models.packing import prefix
from cai.models.packing.grouping import PrefixGroup, batch_groups, group_by_prefix


def rows_of(vocabulary: int, arguments: argparse.Namespace) -> list[list[int]]:
    """Two orders of each pair: a common system prompt, a question, and two answers."""
    draw = random.Random(0)

    def words(count: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(count)]

    system, rows = words(arguments.system), []
    for _ in range(arguments.pairs):
        question = words(20)
        first, second = (words(draw.randint(arguments.answer // 2, arguments.answer)) for _ in "12")
        rows += [system + question + first + second, system + question + second + first]
    return rows


def measure(way: str, arguments: argparse.Namespace) -> str:
    """Read all rows in one way and describe what it took."""
    torch.set_num_threads(1)
    model = load_language_model(arguments.model).model
    rows = rows_of(model.config.vocab_size, arguments)
    budget = default_micro_batch_tokens(model.device)
    counts = [1] * len(rows)
    groups = [PrefixGroup(0, [i]) for i in range(len(rows))]
    if way == "shared":
        groups = group_by_prefix(rows, counts)
    largest = 0
    forward = type(model.base_model).forward

    def watched(self: torch.nn.Module, input_ids: torch.Tensor, **others: object) -> object:
        nonlocal largest
        largest = max(largest, input_ids.numel())
        return forward(self, input_ids=input_ids, **others)

    type(model.base_model).forward = watched  # type: ignore[method-assign]
    started = time.process_time()
    read = 0
    for batch in batch_groups(groups, rows, budget):
        for logits in prefix.prefix_logits(model, rows, counts, batch, pad_id=0, max_tokens=budget):
            read += len(logits)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    shared = sum(len(group.rows) for group in groups if group.shared)
    return f"| {way} | {read} | {shared} | {largest:,} of {budget:,} | {seconds:.1f} | {peak:.2f} |"


def main() -> None:
    """Measure both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--system", type=int, default=60)
    parser.add_argument("--answer", type=int, default=60)
    parser.add_argument("--way", choices=["plain", "shared"])
    arguments = parser.parse_args()
    if arguments.way:
        print(measure(arguments.way, arguments))
        return
    print("| way | rows | sharing a prefix | largest pass, tokens | CPU seconds | peak GB |")
    print("|---|---|---|---|---|---|")
    for way in ("plain", "shared"):
        subprocess.run([sys.executable, *sys.argv, "--way", way], check=True)


if __name__ == "__main__":
    main()
