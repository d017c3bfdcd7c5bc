"""The log of a training: a file of JSON lines, and progress on the screen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai import distributed
from cai.files import disk_errors, finite, write_text
from cai.pipeline.reporter import Reporter

SHOWN = ("loss", "score", "kl", "length")
"""The metrics that are shown while a model trains."""


class LogFile:
    """A file of JSON lines about the steps of a training.

    A training that was killed continues its log: rows of the file from earlier steps are kept,
    the others are dropped when the first row is written. Numbers that are not finite are left out
    of a row, which names them under ``not_finite``.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._is_open = path, False
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of a step, whose number each of them has as ``step`` or ``update``.

        Args:
            step: The number of the step.
            rows: The rows.
        """
        if not self._is_open:
            _drop_rows_from(self._path, step)
            self._is_open = True
        if distributed.is_main():
            with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, rows))


def training_log(
    path: Path, reporter: Reporter, every: float = 1.0
) -> Callable[[dict[str, float]], None]:
    """Return a function that appends rows to a log file and reports how far training is.

    Args:
        path: The file, see :class:`LogFile`.
        reporter: Where progress is shown.
        every: Minimum seconds between two reports.
    """
    log = LogFile(path)
    last_report = 0.0

    def write(row: dict[str, float]) -> None:
        nonlocal last_report
        done = _step(row)
        # an update of PPO has steps of its own, so the number of updates comes first
        total = int(row.get("num_updates", row.get("steps", 0)))
        log.append(done, [row])
        if time.monotonic() - last_report > every or done == total:
            last_report = time.monotonic()
            shown = [f"{name} {row[name]:.3g}" for name in SHOWN if name in row]
            reporter.progress(done, total, ", ".join(shown))

    return write


def _drop_rows_from(path: Path, step: int) -> None:
    """Keep only the rows of a log before a step; a row that a kill cut off is dropped too."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    kept = [row for row in text.splitlines() if (done := _step_of(row)) is not None and done < step]
    distributed.on_main(write_text, path, "".join(row + "\n" for row in kept))


def _line(row: Mapping[str, Any]) -> str:
    """A row as JSON, which has no NaN: such a number is left out, and named."""
    left_out: list[str] = []
    values = finite(row, left_out)
    return json.dumps(values | {"not_finite": left_out} if left_out else values) + "\n"


def _step_of(line: str) -> int | None:
    """The step of a row of the log; None if the row is damaged."""
    try:
        return _step(json.loads(line))
    except (ValueError, TypeError, AttributeError):
        return None


def _step(row: dict[str, float]) -> int:
    return int(row.get("step", row.get("update", 0)))
