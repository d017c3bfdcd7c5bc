"""Where a run reports what it does: the screen of the command line, or nothing."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """What a run tells its user while it works."""

    def stage(self, name: str, title: str) -> None:
        """Report that a stage begins.

        Args:
            name: Name of the stage, such as ``judge`` or ``judge-2``.
            title: What the stage does, in a few words.
        """
        ...

    def up_to_date(self, name: str) -> None:
        """Report that a stage was finished before and needs no work; it does not begin.

        Args:
            name: Name of the stage.
        """
        ...

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Report how far training is.

        Args:
            done: Steps (or updates) done so far.
            total: Steps in all.
            text: Current metrics, such as ``loss 0.31``.
        """
        ...

    def requests(self, done: int, total: int) -> None:
        """Report how many requests of one batch are answered; a stage may ask several batches.

        Args:
            done: Requests answered so far, by the model or from the cache.
            total: Requests of the batch.
        """
        ...

    def info(self, text: str) -> None:
        """Report one line about the current stage."""
        ...

    def warn(self, text: str) -> None:
        """Report one line that the user should act on."""
        ...


class NullReporter:
    """A reporter that shows nothing."""

    def stage(self, name: str, title: str) -> None:
        """Show nothing."""

    def up_to_date(self, name: str) -> None:
        """Show nothing."""

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show nothing."""

    def requests(self, done: int, total: int) -> None:
        """Show nothing."""

    def info(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""
