"""The newest records of a run that is going on, also those that its stage has not finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cai.pipeline.lock import is_unfinished
from cai.pipeline.stages import plan_stages
from cai.records import Record
from cai.studio.library import StudioRun, is_inside
from cai.studio.query import Found
from cai.studio.rows import COLUMNS, KINDS, read_row

SHOWN = 5
"""Records that are shown."""
TAIL = 1 << 20
"""Bytes at the end of a file that are looked at."""
RECORDS = "records.jsonl"


class Newest(NamedTuple):
    """The newest records of a run.

    Attributes:
        stage: Their stage.
        rows: What a list shows of each, the newest first.
        is_finished: Whether they are in the file of the stage, where they can be opened.
    """

    stage: str
    rows: list[Found]
    is_finished: bool


def newest(run: StudioRun) -> Newest | None:
    """Read the newest records: those at the end of the last file that a stage writes or wrote.

    Args:
        run: The run.

    Returns:
        None if there are no records yet.
    """
    for planned in reversed(plan_stages(run.config)):
        kind, folder = KINDS.get(planned.stage.name), run.folder / planned.name
        if kind is None or not folder.is_dir():
            continue
        for path in _files(folder):
            rows = list(_rows(path, kind)) if is_inside(path, run.folder) else []
            if rows:
                return Newest(planned.name, rows, path.name == RECORDS)
    return None


def _files(folder: Path) -> Iterator[Path]:
    """The files with records of a stage: one that is being written comes first."""
    for path in folder.glob(f".{RECORDS}.*"):
        if is_unfinished(path.name):
            yield path
    yield folder / RECORDS


def _rows(path: Path, kind: type[Record]) -> Iterator[Found]:
    """The last records of a file, the last one first; half a line is none."""
    try:
        with path.open("rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - TAIL)
            file.seek(start)
            lines = file.read(TAIL).split(b"\n")
    except OSError:  # the stage has finished it a moment ago
        return
    for line in lines[1 if start else 0 : -1][::-1][:SHOWN]:
        row = read_row(line, kind)
        if not isinstance(row, str):
            yield Found(zip(COLUMNS[3:], row.values, strict=True))
