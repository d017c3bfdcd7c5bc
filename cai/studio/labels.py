"""Labels of people: a file of preferences in the run, which ``reward.human`` reads as it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from cai.errors import InputError, LimitReached, Problem
from cai.files import disk_errors, write_text
from cai.keys import uniform
from cai.records import Comparison

LABELS = "human_labels.jsonl"
"""The file of a run that holds the labels of people."""
Choice = Literal["left", "right", "tie"]
P_CHOSEN = {"left": 1.0, "right": 1.0, "tie": 0.5}


def is_swapped(pair: str, rater: str) -> bool:
    """Whether a rater sees the second answer of a comparison on the left.

    Args:
        pair: Id of the comparison.
        rater: Name of the rater.
    """
    return uniform("label", pair, rater) < 0.5


def make_row(comparison: Comparison, choice: Choice, rater: str, note: str = "") -> dict[str, Any]:
    """Make the row of a label.

    Args:
        comparison: The two answers.
        choice: The one that the rater prefers, by the side where it was shown.
        rater: Name of the rater.
        note: What the rater remarked.
    """
    answers = (comparison.first, comparison.second)
    is_first = (choice == "right") == is_swapped(comparison.id, rater)
    chosen, rejected = answers if is_first else answers[::-1]
    return {
        "prompt": [message.model_dump() for message in comparison.prompt.messages],
        "chosen": chosen,
        "rejected": rejected,
        "p_chosen": P_CHOSEN[choice],
        "source": "human",
        "rater": rater,
        "note": note,
        "pair": comparison.id,
        "p_first": 0.5 if choice == "tie" else float(is_first),
    }


class LabelFile:
    """The labels of people in a run. Several processes may add to it.

    Args:
        path: The file; it is made with the first label.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """All labels in the order in which they were given; half a line is none."""
        return [row for _, row in self._read()]

    def by_rater(self, rater: str) -> dict[str, dict[str, Any]]:
        """The labels of a rater by the id of the comparison.

        Args:
            rater: Name of the rater.
        """
        return {row["pair"]: row for row in self.rows() if row["rater"] == rater}

    def add(self, row: Mapping[str, Any]) -> bool:
        """Add a label, unless its rater has labeled the comparison before.

        Args:
            row: The label, from :func:`make_row`.

        Returns:
            Whether it was added.

        Raises:
            LimitReached: If the file cannot be written.
        """
        with self._locked():
            lines = self._read()
            if any((r["rater"], r["pair"]) == (row["rater"], row["pair"]) for _, r in lines):
                return False
            line = json.dumps(row, ensure_ascii=False) + "\n"
            with disk_errors(self.path), self.path.open("r+b") as file:
                size = sum(len(raw) for raw, _ in lines)
                if file.seek(0, os.SEEK_END) > size:  # half a line of a process that was killed
                    self._check_half(size)
                    file.truncate(size)
                file.seek(size)
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            return True

    def undo(self, rater: str) -> dict[str, Any] | None:
        """Remove the last label of a rater.

        Args:
            rater: Name of the rater.

        Returns:
            The label; None if the rater has none.
        """
        with self._locked():
            lines = self._read()
            own = [i for i, (_, row) in enumerate(lines) if row["rater"] == rater]
            if not own:
                return None
            kept = [raw for i, (raw, _) in enumerate(lines) if i != own[-1]]
            write_text(self.path, b"".join(kept).decode("utf-8"))
            return lines[own[-1]][1]

    def _check_half(self, size: int) -> None:
        """Refuse to cut off more than half a line, such as a line that a person has edited.

        Raises:
            InputError: If a whole line cannot be read.
        """
        rest = self.path.read_bytes()[size:]
        if b"\n" in rest.rstrip(b"\n"):
            number = self.path.read_bytes()[:size].count(b"\n") + 1
            raise InputError([Problem(f"{self.path}:{number}:1", "is not a label; mend the line")])

    def _read(self) -> list[tuple[bytes, dict[str, Any]]]:
        """The whole lines at the beginning of the file, up to the first that is no label."""
        if self.path.is_symlink() or not self.path.is_file():
            return []
        lines = []
        for raw in self.path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError):
                break
            if not _is_label(row) or not raw.endswith(b"\n"):
                break
            lines.append((raw, row))
        return lines

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes and threads from the file; make it if there is none."""
        if self.path.is_symlink():
            raise LimitReached(f"{self.path}: is a link, and is not written to")
        lock = self.path.with_name(f".{self.path.name}.lock")
        with disk_errors(lock):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with disk_errors(self.path):
                self.path.touch()
            yield
        finally:
            os.close(handle)


def _is_label(row: object) -> bool:
    """Whether a row is one that :func:`make_row` made."""
    if not isinstance(row, dict) or not all(isinstance(row.get(n), str) for n in ("pair", "rater")):
        return False
    return row.get("p_first") in (0, 0.5, 1)
