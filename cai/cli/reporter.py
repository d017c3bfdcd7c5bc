"""What a run shows while it works: a live bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cai import distributed
from cai.backends.response_cache import ResponseCache
from cai.cli.progress import Forecast, Tally, short_count, short_time

QUIET_SECONDS = 10.0
"""The longest that a run says nothing."""
INDENT = " " * 8
BAR_WIDTH = 16
ELAPSED_WIDTH = 11
"""Characters of the elapsed time beside the bar, and of the gaps."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Remove control and direction characters, so that a model's text cannot move the terminal."""
    return _CONTROL.sub("", text)


class TerminalReporter:
    """Prints stages as they come, and how far the current one and the whole run are.

    Args:
        console: Where to print; by default standard output.
        clock: Gives the time in seconds.

    Attributes:
        done: The stages that were at work, without those that were up to date.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.done: list[str] = []
        self._clock = clock
        self._forecast: Forecast | None = None
        self._cache: ResponseCache | None = None
        self._name = ""
        self._requests, self._steps, self._text = Tally(), Tally(), ""
        self._started = self._printed = clock()
        self._up_to_date: list[str] = []
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._closed = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def follow(self, forecast: Forecast, cache: ResponseCache) -> None:
        """Also show the number of each stage, the time left, and the tokens and money used.

        Args:
            forecast: The stages ahead.
            cache: The cache of the run, which counts what is asked.
        """
        self._forecast, self._cache = forecast, cache

    def __enter__(self) -> TerminalReporter:
        """Report until the end of the block."""
        if not self.console.is_terminal:
            self._heartbeat = threading.Thread(target=self._beat, daemon=True)
            self._heartbeat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the bar and the thread that keeps a run from being silent."""
        self._finish_stage()
        self._print_up_to_date()
        self._closed.set()
        if self._heartbeat is not None:
            self._heartbeat.join()

    def stage(self, name: str, title: str) -> None:
        """Print the header of a stage."""
        self._finish_stage()
        self._print_up_to_date()
        self._name, self._started = name, self._clock()
        self._requests, self._steps, self._text = Tally(), Tally(), ""
        number = ""
        if self._forecast is not None:
            self._forecast.start(name)
            plan = self._forecast.current
            number = f"[{self._forecast.position + 1}/{len(self._forecast.stages)}] "
            self._requests.expected = plan.requests if plan else 0
        self._print(f"{number}{name:<10} {title}")
        self._show()

    def up_to_date(self, name: str) -> None:
        """Remember a stage that needs no work; such stages are printed together."""
        self._finish_stage()
        if self._forecast is not None:
            self._forecast.start(name)
        self._up_to_date.append(name)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show how far training is."""
        self._steps.update(done, total)
        plan = self._forecast.current if self._forecast else None
        self._steps.expected = total * (plan.trainings if plan else 1)
        self._text = text
        self._show()

    def requests(self, done: int, total: int) -> None:
        """Show how many of the stage's requests are answered."""
        self._requests.update(done, total)
        self._show()

    def info(self, text: str) -> None:
        """Print a line below the stage."""
        self._stop_bar()
        self._print(f"{INDENT}{text}")

    def warn(self, text: str) -> None:
        """Print a warning on standard error."""
        self._stop_bar()
        if distributed.is_main():
            print(f"warning: {text}", file=sys.stderr)

    def tick(self) -> None:
        """Print how far the stage is, if nothing was printed for a while."""
        if self._name and self._clock() - self._printed >= QUIET_SECONDS:
            elapsed = f"{short_time(self._clock() - self._started)} so far"
            self._print(INDENT + self._state(elapsed, self.console.width - len(INDENT)))

    def _print_up_to_date(self) -> None:
        if self._up_to_date:
            self._print(f"up to date: {', '.join(self._up_to_date)}")
            self._up_to_date = []

    def _beat(self) -> None:
        while not self._closed.wait(1.0):
            self.tick()

    def _print(self, text: str) -> None:
        self._printed = self._clock()
        self.console.print(text, markup=False)

    def _state(self, unknown: str, room: int) -> str:
        """How far the stage and the run are, in one line.

        Args:
            unknown: What to say while nothing is known about the stage.
            room: Characters; parts that do not fit are left out.
        """
        tally = self._tally()
        parts = [f"{tally.done:,} of {tally.total:,}" if tally.total else unknown]
        left = None
        if self._forecast is not None:
            elapsed = self._clock() - self._started
            left = self._forecast.seconds_left(self._fraction(), elapsed)
        if left is not None:
            parts.append(f"about {short_time(left)} left")
        line = ""
        for part in [*parts, self._text, *self._spending()]:
            longer = f"{line} · {part}" if line else part
            if part and len(longer) <= room:
                line = longer
        return line

    def _spending(self) -> list[str]:
        """Tokens and money of this command so far."""
        if self._cache is None:
            return []
        usage = list(self._cache.usage.values())  # a copy: another thread may add to it
        tokens_in = sum(stage.tokens_in for stage in usage)
        tokens_out = sum(stage.tokens_out for stage in usage)
        money = self._cache.budget.cost(tokens_in, tokens_out)
        spending = [f"{short_count(tokens_in + tokens_out)} tokens"] if tokens_in else []
        return [*spending, f"{money:,.2f} spent"] if money else spending

    def _tally(self) -> Tally:
        """What tells how far the stage is: its steps if it trains, else its requests."""
        return self._steps if self._steps.total else self._requests

    def _fraction(self) -> float:
        tally = self._tally()
        return tally.done / tally.total if tally.total else 0.0

    def _finish_stage(self) -> None:
        self._stop_bar()
        if self._name:
            self.done.append(self._name)
        if self._name and self._forecast is not None:
            self._forecast.finish(self._clock() - self._started, self._fresh())
        self._name = ""

    def _fresh(self) -> float:
        """The fraction of the stage's work that was not there before."""
        usage = self._cache.usage.get(self._name) if self._cache else None
        if usage is None or self._steps.total or not usage.requests + usage.cached:
            return 1.0
        return usage.requests / (usage.requests + usage.cached)

    def _show(self) -> None:
        """Bring the bar up to date; elsewhere than on a terminal, the heartbeat prints."""
        if not self.console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn(INDENT[:-1]),
                BarColumn(BAR_WIDTH),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        tally = self._tally()
        total = tally.total or None
        text = self._state("", self.console.width - len(INDENT) - BAR_WIDTH - ELAPSED_WIDTH)
        self._bar.update(self._task, completed=tally.done, total=total, description=text)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
