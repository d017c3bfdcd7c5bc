"""``cai influence``: which principles decide the labels of a run, and which conflict."""

from __future__ import annotations

from cai.cli.audit import labeled_folders
from cai.cli.folders import RunFolder, print_stale, run_folder
from cai.config import load_config
from cai.constitution.lock import read_lock
from cai.evaluate import influence as measure
from cai.feedback.panel import one_per_principle
from cai.files import read_records
from cai.records import Preference

MAX_CONFLICTS = 8
"""Pairs of principles that are printed."""
COLUMNS = ("labels", "opinion", "decides", "flips", "moves")


def influence(folder: RunFolder = None) -> None:
    """Show which principles decide the labels of a run.

    Reads the labels of all iterations; no model is asked. For each principle: the labels that it
    was asked about, the share of them on which it has an opinion, the share that it alone decides,
    the share that flips (or is lost) without it, and how far the label moves without it.

    Example: cai influence runs/quickstart
    """
    folder = run_folder(folder)
    print_stale(folder, "judge")
    labels: list[Preference] = []
    for stage in labeled_folders(folder):
        labels += read_records(stage / "records.jsonl", Preference)
    judge = load_config(folder / "config.yaml").judge
    constitution = read_lock(folder / "constitution.lock.yaml")
    labels = [one_per_principle(label, judge.combine_judges) for label in labels]
    weights = {} if judge.principles else constitution.used_for("judge")
    rows = measure.influence(labels, weights, judge.combine)
    width = max(len("principle"), *(len(row.principle) for row in rows), 0) + 1
    print(f"{'principle':<{width}}" + "".join(f"{name:>9}" for name in COLUMNS))
    for row in rows:
        print(
            f"{row.principle:<{width}}{row.labels:>9,}{row.opinion:>9.1%}"
            f"{row.decides:>9.1%}{row.flips:>9.1%}{row.moves:>9.3f}"
        )
    with_opinion = {row.principle for row in rows if row.opinion}
    silent = sorted(set(constitution.used_for("judge")) - with_opinion)
    if silent:
        print(f"\nwithout any opinion: {', '.join(silent)}")
    conflicts = [pair for pair in measure.conflicts(labels) if pair.opposed]
    if conflicts:
        print("\nconflicts:")
    for pair in conflicts[:MAX_CONFLICTS]:
        print(f"  {pair.one} and {pair.other}: opposed on {pair.opposed:.0%} of {pair.n:,} labels")
