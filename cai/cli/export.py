"""``cai export``: a run's labels and revisions as datasets for other tools."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from cai.constitution.lock import read_lock
from cai.data.export import (
    Shape,
    card,
    completion_rows,
    preference_rows,
    transcript_rows,
    write_rows,
)
from cai.errors import InputError, Problem
from cai.evaluate.audit import audit
from cai.feedback.revise import training_rows
from cai.files import read_json, read_records, write_text
from cai.keys import digest
from cai.pipeline.layout import iteration_folders
from cai.records import Preference, Revision
from cai.templates import NAMES, template_hash


def export_run(folder: Path, out: Path, shape: Shape, force: bool = False) -> None:
    """Write what a run has of ``preferences`` and ``revisions`` into ``out``, with a card, and say what was left out.

    Raises:
        InputError: if there is neither, or the audit found the labels unfit and nobody says ``force``.
    """
    judged = [
        path
        for stage in iteration_folders(folder, "judge")
        if (path := stage / "records.jsonl").is_file()
    ]
    revised = folder / "revise" / "records.jsonl"
    if not judged and not revised.is_file():
        raise InputError(
            [Problem(str(folder), "holds neither labels nor revisions; is it the folder of a run?")]
        )
    audited = [
        path
        for stage in iteration_folders(folder, "audit")
        if (path := stage / "audit.json").is_file()
    ]
    unfit = [
        f"{path.parent.name}: {reason}"
        for path in audited
        for reason in read_json(path)["failings"]
    ]
    if unfit and not force:
        raise InputError(
            [
                Problem(str(folder), f"{reason}; to write the labels all the same: --force")
                for reason in unfit
            ]
        )
    files: dict[str, Path] = {}
    facts = _constitution(folder) | ({"unfit to train on": "; ".join(unfit)} if unfit else {})
    if judged:
        preferences, left_out = (
            [p for path in judged for p in read_records(path, Preference)],
            Counter[str](),
        )
        rows = list(
            (transcript_rows if shape == "transcripts" else preference_rows)(preferences, left_out)
        )
        files["preferences"] = write_rows(rows, out, "preferences", shape)
        facts |= {"preferences": len(rows), **_labels(preferences)}
        facts |= {f"left out: {reason}": count for reason, count in sorted(left_out.items())}
    if revised.is_file():
        made = list(completion_rows(training_rows(read_records(revised, Revision))))
        files["revisions"] = write_rows(made, out, "revisions", shape)
        facts["revisions"] = len(made)
    write_text(
        out / "README.md",
        card(f"{folder.name}: preferences and revisions by a constitution", files, facts),
    )
    for name, path in files.items():
        print(f"{name:<14}{facts[name]:>8,}  {path}")
    for name, value in facts.items():
        if name.startswith("left out"):
            print(f"{name}: {value:,}")
    print(f"load with       datasets.load_dataset({str(out)!r}, {next(iter(files))!r})")


def _constitution(folder: Path) -> dict[str, Any]:
    path = folder / "constitution.lock.yaml"
    if not path.is_file():
        return {}
    constitution = read_lock(path)
    hashes = [template_hash(name) for name in NAMES]
    return {
        "constitution": constitution.name,
        "constitution hash": constitution.hash,
        "prompt templates": digest(hashes),
    }


def _labels(preferences: list[Preference]) -> dict[str, Any]:
    """What a reader of the labels has to know of the judge."""
    metrics = audit(preferences)
    same = metrics["place"]["order_consistency"]
    return {
        "judge": ", ".join(sorted({p.judge for p in preferences})),
        "read by": ", ".join(sorted({r.method for p in preferences for r in p.judgments})),
        "without a label": _share(metrics["unscored"]),
        "near one half": _share(metrics["near_ties"]),
        "verdict turns with the order": "not asked both ways"
        if same is None
        else f"{1 - same:.1%}",
        "longer answer wins": _share(metrics["length"]["longer_wins"]),
    }


def _share(share: dict[str, float]) -> str:
    return f"{share['value']:.1%}" if share["n"] else "none to count"
