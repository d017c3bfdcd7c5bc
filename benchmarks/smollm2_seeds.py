"""Run the SmolLM2 example with several seeds and print a table of its principles.

    python benchmarks/smollm2_seeds.py OUT [--seeds 0 1 2]

Each cell is the share of answers to held-out prompts that keep the principle, over all seeds, with
its 95 % interval. Runs in OUT that are finished are not repeated.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seeds import run_example

from cai.evaluate.statistics import wilson

POLICIES = ("initial", "sl_cai", "rl_cai")


def pooled(runs: Sequence[dict[str, Any]], policy: str, flag: str, prompt_sets: set[str]) -> str:
    """Return a share over all seeds, with its interval."""
    shares = [
        share
        for run in runs
        for prompt_set, share in run["policies"][policy]["flags"][flag].items()
        if prompt_set in prompt_sets
    ]
    count = sum(share["n"] for share in shares)
    rate = wilson(sum(share["value"] * share["n"] for share in shares), count)
    return f"{rate.value:.0%} ({rate.low * 100:.0f}-{rate.high * 100:.0f})"


def print_table(runs: Sequence[dict[str, Any]]) -> None:
    """Print the share of answers that keep each principle as a Markdown table."""
    flags = runs[0]["policies"]["initial"]["flags"]
    print("| | initial | SL-CAI | RL-CAI |\n|---|---|---|---|")
    for flag, by_set in flags.items():
        where = "" if len(by_set) > 1 else f", {next(iter(by_set)).removeprefix('eval_')}"
        cells = [pooled(runs, policy, flag, set(by_set)) for policy in POLICIES]
        print(f"| {flag.replace('_', ' ')}{where} | {' | '.join(cells)} |")
    for key in ("length", "nats_per_token_under_initial", "kl_from_sl_cai"):
        values = [
            sum(run["policies"][policy].get(key, 0.0) for run in runs) / len(runs)
            for policy in POLICIES
        ]
        print(f"| {key.replace('_', ' ')} | {' | '.join(f'{value:.2f}' for value in values)} |")
    minutes = [sum(run["seconds"].values()) / 60 for run in runs]
    print(f"\nminutes, all stages: {', '.join(f'{value:.1f}' for value in minutes)}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"peak memory of these processes: {peak:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the runs, one folder for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], help="setting for cai run")
    options = parser.parse_args()
    print_table(
        [run_example("smollm2.yaml", options.out / str(s), s, options.set) for s in options.seeds]
    )


if __name__ == "__main__":
    main()
