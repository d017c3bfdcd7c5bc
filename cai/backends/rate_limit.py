"""How fast to ask a server: as many calls at once as it takes well, and how long to wait after it says no."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is asked again after this."""


class AdaptiveLimiter:
    """At most ``limit`` calls at once: it doubles per round of successes until the server is full for the first time; from then
    on it grows by one per round, and halves whenever the server is full.

    The rule is that of TCP congestion control (slow start, additive increase, multiplicative decrease).
    """

    def __init__(self, start: int = 8, most: int = 64) -> None:
        self.limit, self.most = float(min(start, most)), most
        self._inside = 0
        self._shrunk: float | None = None
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a place, and give it back afterwards."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside < int(self.limit))
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify(max(1, int(self.limit) - self._inside))

    def on_success(self) -> None:
        grown = self.limit + (1 if self._shrunk is None else 1 / self.limit)
        self.limit = min(grown, float(self.most))

    def on_overload(self) -> None:
        """Halve, but once only for all the refusals of one moment."""
        now = time.monotonic()
        if self._shrunk is None or now - self._shrunk > 1.0:
            self.limit, self._shrunk = max(1.0, self.limit / 2), now


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (a number or a date), at most ``LONGEST_WAIT``; None without one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if seconds == seconds else None


def backoff(try_prompt: int, base: float) -> float:
    """Seconds before the next attempt: doubling from ``base``, with jitter so that clients do not come back together."""
    return min(base * float(2**try_prompt), LONGEST_WAIT) * random.uniform(0.5, 1.0)
