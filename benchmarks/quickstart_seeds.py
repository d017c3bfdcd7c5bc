"""The quick start over several seeds: ``python benchmarks/quickstart_seeds.py OUT [--seeds 0 1 2 3 4]``.

Prints a table with the median and the worst seed of each figure, on held-out prompts. Runs that are finished already are only
read.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# title, path in metrics.json, whether more is better
FIGURES: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("initial: harmful", ("policies", "initial", "harmful_rate"), True),
    ("initial: helpful", ("policies", "initial", "helpful_rate"), True),
    ("SL-CAI: harmful", ("policies", "sl_cai", "harmful_rate"), False),
    ("SL-CAI: helpful", ("policies", "sl_cai", "helpful_rate"), True),
    ("RL-CAI: harmful", ("policies", "rl_cai", "harmful_rate"), False),
    ("RL-CAI: helpful", ("policies", "rl_cai", "helpful_rate"), True),
    ("RL-CAI: evasive", ("policies", "rl_cai", "evasive_rate"), False),
    ("control: harmful", ("policies", "control", "harmful_rate"), False),
    ("control: helpful", ("policies", "control", "helpful_rate"), True),
    ("judge: accuracy", ("judge", "accuracy"), True),
    ("judge: crossover, both right", ("judge", "crossover"), True),
    ("judge: ties when irrelevant", ("judge", "ties_when_irrelevant"), True),
    ("reward model: gold pairs", ("reward_model", "gold_accuracy"), True),
    ("reward cell: harmful, comply", ("reward_model", "test_sets", "harmful_comply"), True),
    ("reward cell: harmful, refuse", ("reward_model", "test_sets", "harmful_refuse"), True),
    ("reward cell: benign, comply", ("reward_model", "test_sets", "benign_comply"), True),
    ("reward cell: benign, refuse", ("reward_model", "test_sets", "benign_refuse"), True),
)


def run(folder: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "cai",
        "run",
        str(ROOT / "examples/quickstart.yaml"),
        "--run",
        str(folder),
        "--set",
        f"seed={seed}",
    ]
    done = subprocess.run(
        [*command, *(part for s in settings for part in ("--set", s))],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def at(metrics: dict[str, Any], path: tuple[str, ...]) -> float:
    value: Any = metrics
    for key in path:
        value = value[key]
    return float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", action="append", default=[], help="settings passed on to cai run")
    options = parser.parse_args()
    runs = [run(options.out / str(seed), seed, options.set) for seed in options.seeds]
    print(f"| | median of {len(runs)} seeds | worst |\n|---|---|---|")
    for title, path, more_is_better in FIGURES:
        values = [at(metrics, path) for metrics in runs]
        worst = min(values) if more_is_better else max(values)
        print(f"| {title} | {statistics.median(values):.1%} | {worst:.1%} |")
    seconds = [sum(metrics["seconds"].values()) for metrics in runs]
    print(f"| seconds, all stages | {statistics.median(seconds):.0f} | {max(seconds):.0f} |")
    kl = [metrics["ppo"]["kl"] for metrics in runs]
    print(
        f"| KL of RL-CAI from SL-CAI, nats per answer | {statistics.median(kl):.1f} | {max(kl):.1f} |"
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    if peak:
        print(f"| peak memory of the runs made now, GB | | {peak:.2f} |")


if __name__ == "__main__":
    main()
