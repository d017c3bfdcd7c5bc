"""Pairs of a run as tasks for annotation tools, and the labels that come back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from cai.data.annotation_tasks import ARGILLA_SETTINGS, LABEL_STUDIO_VIEW, Tool, task, votes_of
from cai.data.tables import collect_rows
from cai.errors import InputError, Problem, summarized
from cai.files import read_records, write_text
from cai.pipeline.layout import iteration_folders
from cai.records import Comparison
from cai.studio.labels import LABELS, LabelFile, row_of

INTERFACES = {
    "label-studio": ("tasks.json", "interface.xml", LABEL_STUDIO_VIEW),
    "argilla": ("records.json", "settings.json", json.dumps(ARGILLA_SETTINGS, indent=2) + "\n"),
}
"""For each tool the file of the tasks, and the file that says how they are shown, with its text."""


def export_tasks(folder: Path, out: Path, tool: Tool) -> None:
    """Write the pairs of a run as tasks, blind, beside the interface that shows them.

    Args:
        folder: Folder of the run.
        out: Folder to write to.
        tool: The tool.

    Raises:
        InputError: If the run has no pairs yet.
    """
    pairs = _pairs(folder)
    if not pairs:
        raise InputError([Problem(str(folder), "has no pairs of answers yet")])
    tasks_name, interface_name, interface = INTERFACES[tool]
    tasks = [task(pair, tool) for pair in pairs.values()]
    write_text(out / tasks_name, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    write_text(out / interface_name, interface)
    print(f"tasks     {len(tasks):>8,}  {out / tasks_name}")
    print(f"interface           {out / interface_name}")
    print(f"next: cai import EXPORTED.json --labels {folder}")


def import_labels(file: Path, folder: Path) -> None:
    """Add what people chose in tasks of a run to the labels of the run.

    Args:
        file: What the tool exported.
        folder: Folder of the run.

    Raises:
        InputError: If a row of the file is no task.
    """
    pairs, counts = _pairs(folder), Counter[str]()
    problems: list[Problem] = []
    rows = []
    for place, row in collect_rows(file, problems):
        try:
            votes = list(votes_of(row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, str(error)))
            continue
        counts["task without a choice"] += not votes
        for vote in votes:
            pair = pairs.get(vote.pair)
            if pair is None or vote.first not in (pair.first, pair.second):
                counts["of no pair of this run"] += 1
                continue
            p_first = vote.p_first if vote.first == pair.first else 1 - vote.p_first
            rows.append(row_of(pair, p_first, vote.rater))
    if problems:
        raise InputError(summarized(problems))
    labels = LabelFile(folder / LABELS)
    known = len(labels.rows())
    labels.add(*rows)
    added = len(labels.rows()) - known
    counts["given before"] += len(rows) - added
    print(f"labels    {added:>8,}  {labels.path}")
    for reason, count in counts.items():
        if count:
            print(f"left out: {reason}: {count:,}")


def _pairs(folder: Path) -> dict[str, Comparison]:
    """The pairs of all iterations of a run by their ids."""
    paths = [path / "records.jsonl" for path in iteration_folders(folder, "compare")]
    records = (pair for path in paths if path.is_file() for pair in read_records(path, Comparison))
    return {pair.id: pair for pair in records}
