"""Limit the number of concurrent requests to what a server can take, and wait after a refusal."""

from __future__ import annotations

import asyncio
import email.utils
import math
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

MAX_WAIT = 60.0
"""Seconds; a server that asks for a longer wait is asked again after this."""
_SAME_OVERLOAD = 1.0
"""Seconds within which all refusals count as one overload."""


class AdaptiveLimiter:
    """Admits at most ``limit`` requests at once, and adapts the limit to the server.

    The rule is that of TCP congestion control: slow start, additive increase, multiplicative
    decrease. The limit doubles with every round of successes until the server is overloaded for the
    first time. From then on it grows by one with every round, and halves with every overload.

    Args:
        start: The limit at the beginning.
        maximum: The highest limit.

    Attributes:
        limit: The present limit.
    """

    def __init__(self, start: int = 8, maximum: int = 64) -> None:
        self.limit = float(min(start, maximum))
        self._maximum = float(maximum)
        self._active = 0
        self._last_overload: float | None = None
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait until a request may be sent, and make room for another one afterwards."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._active < int(self.limit))
            self._active += 1
        try:
            yield
        finally:
            async with self._changed:
                self._active -= 1
                self._changed.notify(max(1, int(self.limit) - self._active))

    def on_success(self) -> None:
        """Raise the limit after a request that succeeded."""
        step = 1.0 if self._last_overload is None else 1.0 / self.limit
        self.limit = min(self.limit + step, self._maximum)

    def on_overload(self) -> None:
        """Halve the limit after a refusal, once for all refusals of the same overload."""
        now = time.monotonic()
        if self._last_overload is None or now - self._last_overload > _SAME_OVERLOAD:
            self.limit = max(1.0, self.limit / 2)
            self._last_overload = now


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse a ``Retry-After`` header, which is a number of seconds or a date.

    Args:
        headers: The headers of a response, with names in lower case.

    Returns:
        Seconds to wait, at most ``MAX_WAIT``; None if there is no valid header.
    """
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
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), MAX_WAIT)


def backoff(failures: int, base: float) -> float:
    """Return how long to wait before the next attempt.

    Args:
        failures: Number of attempts that failed.
        base: Seconds; the wait doubles from here with every failure.

    Returns:
        Seconds, with jitter so that clients do not all come back at the same time.
    """
    return min(base * float(2**failures), MAX_WAIT) * random.uniform(0.5, 1.0)
