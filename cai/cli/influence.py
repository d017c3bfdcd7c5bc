"""``cai influence``: which principles matter to the labels of a run, and which fight each other."""

from __future__ import annotations

from pathlib import Path

from cai.config import RunConfig, round_folders
from cai.constitution.lock import read_lock
from cai.documents import load
from cai.errors import InputError, Problem
from cai.evaluate.influence import conflicts, influence
from cai.files import read_records
from cai.records import Preference

SHOWN = 8


def show_influence(folder: Path) -> None:
    """Print one row per principle, by the labels of all rounds, and the pairs that contradict each other most."""
    judged = [
        path
        for stage in round_folders(folder, "judge")
        if (path := stage / "records.jsonl").is_file()
    ]
    if not judged:
        raise InputError(
            [
                Problem(
                    str(folder),
                    "holds no labels; is it the folder of a run that has come to its judge?",
                )
            ]
        )
    config = RunConfig.model_validate(load(folder / "config.yaml").value).judge
    constitution, labels = (
        read_lock(folder / "constitution.lock.yaml"),
        [p for path in judged for p in read_records(path, Preference)],
    )
    weights = {} if config.principles else constitution.used_for("judge")
    rows = influence(labels, weights, config.combine)
    print(
        f"{'principle':<34}{'labels':>8}{'says something':>16}{'decides standalone':>15}{'labels that turn':>18}{'moves by':>10}"
    )
    for row in rows:
        print(
            f"{row.principle:<34}{row.labels:>8,}{row.says_something:>16.1%}{row.decided_alone:>15.1%}{row.turns:>18.1%}{row.moves:>10.3f}"
        )
    silent = [
        name
        for name in constitution.used_for("judge")
        if name not in {row.principle for row in rows if row.says_something}
    ]
    if silent:
        print(f"\nnever matter here: {', '.join(sorted(silent))}")
    fights = [row for row in conflicts(labels) if row.opposed]
    if fights:
        print("\nfight each other:")
        for fight in fights[:SHOWN]:
            print(f"  {fight.one} and {fight.other}: opposed in {fight.opposed:.0%} of {fight.n:,}")
