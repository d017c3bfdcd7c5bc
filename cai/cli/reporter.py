"""What a run shows while it works: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
QUIET_SECONDS = 10.0


def safe(text: str) -> str:
    """A model's text without control and direction characters, so that it cannot move the terminal."""
    return _CONTROL.sub("", text)


class TerminalReporter:
    """Prints stages as they come; long ones show how far they are."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._live: Progress | None = None
        self._task: int = 0
        self._said = time.monotonic()

    def stage(self, name: str, text: str) -> None:
        self._stop()
        self.console.print(f"{name:<10} {text}", markup=False)
        self._said = time.monotonic()

    def up_to_date(self) -> None:
        self.info("up to date")

    def progress(self, done: int, total: int, text: str = "") -> None:
        if self.console.is_terminal:
            self._bar(done, total, text)
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            self.console.print(f"{'':<10} {done:,} of {total:,} {text}".rstrip(), markup=False)

    def requests(self, done: int, total: int) -> None:
        self.progress(done, total)

    def info(self, text: str) -> None:
        self._stop()
        self.console.print(f"{'':<10} {text}", markup=False)

    def warn(self, text: str) -> None:
        self._stop()
        print(f"warning: {text}", file=sys.stderr)

    def _bar(self, done: int, total: int, text: str) -> None:
        if self._live is None:
            columns = (
                TextColumn(" " * 10),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._live = Progress(*columns, console=self.console, transient=True)
            self._task = self._live.add_task("", total=total)
            self._live.start()
        self._live.update(self._task, completed=done, total=total, description=text)  # type: ignore[arg-type]

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
