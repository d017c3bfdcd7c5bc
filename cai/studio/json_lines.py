"""Files of a run that the studio adds rows to: JSON lines, of which none is ever lost."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai.cleaning import clean
from cai.errors import InputError, LimitReached, Problem
from cai.files import disk_errors, write_text

Row = dict[str, Any]


class JsonLines:
    """A file with one JSON object per line. Several processes may add to it.

    Args:
        path: The file; it is made with the first row.
        is_row: Whether an object is a row of the file.
        kind: What a row is, for messages, such as ``a label``.
    """

    def __init__(
        self, path: Path, is_row: Callable[[Row], bool] = bool, kind: str = "a row"
    ) -> None:
        self.path = path
        self._is_row, self._kind = is_row, kind

    def rows(self) -> list[Row]:
        """All rows in the order in which they were added; half a line is none."""
        return [row for _, row in self._read()]

    def append(
        self, *rows: Mapping[str, Any], key: Callable[[Mapping[str, Any]], object] | None = None
    ) -> bool:
        """Add rows, all or none.

        Args:
            *rows: The rows.
            key: What no two rows have in common: rows whose key is there already are left out. By
                default none is.

        Returns:
            Whether any was added.

        Raises:
            LimitReached: If the file cannot be written.
            InputError: If a line in the middle of it is no row.
        """
        with self._locked():
            lines = self._read()
            known = [key(row) for _, row in lines] if key else []
            new = [row for row in rows if key is None or key(row) not in known]
            if not new:
                return False
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new)
            with disk_errors(self.path), self.path.open("r+b") as file:
                size = sum(len(raw) for raw, _ in lines)
                if file.seek(0, os.SEEK_END) > size:  # half a line of a process that was killed
                    self._check_half(size)
                    file.truncate(size)
                file.seek(size)
                file.write(clean(text).encode())
                file.flush()
                os.fsync(file.fileno())
            return True

    def remove(self, choose: Callable[[list[Row]], Collection[int]]) -> list[Row]:
        """Remove rows.

        Args:
            choose: Gets all rows and returns the places of those to remove.

        Returns:
            The removed rows.

        Raises:
            LimitReached: If the file cannot be written.
        """
        with self._locked():
            lines = self._read()
            chosen = set(choose([row for _, row in lines]))
            if chosen:
                kept = [raw for i, (raw, _) in enumerate(lines) if i not in chosen]
                write_text(self.path, b"".join(kept).decode("utf-8"))
            return [lines[i][1] for i in sorted(chosen)]

    def _check_half(self, size: int) -> None:
        """Refuse to cut off more than half a line, such as a line that a person has edited.

        Raises:
            InputError: If a whole line cannot be read.
        """
        rest = self.path.read_bytes()[size:]
        if b"\n" in rest.rstrip(b"\n"):
            number = self.path.read_bytes()[:size].count(b"\n") + 1
            text = f"is not {self._kind}; mend the line"
            raise InputError([Problem(f"{self.path}:{number}:1", text)])

    def _read(self) -> list[tuple[bytes, Row]]:
        """The whole lines at the beginning of the file, up to the first that is no row."""
        if self.path.is_symlink() or not self.path.is_file():
            return []
        lines = []
        for raw in self.path.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict) or not self._is_row(row) or not raw.endswith(b"\n"):
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
