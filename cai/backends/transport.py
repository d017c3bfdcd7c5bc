"""Transport to servers: limited response sizes, and a thread that runs many requests at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx2 as httpx

from cai.errors import CaiError


class CappedTransport(httpx.AsyncHTTPTransport):
    """Refuses response bodies over a size, and compressed ones, whose true size is unknown.

    Args:
        max_bytes: Maximum size of a body.
        **options: Options of ``httpx.AsyncHTTPTransport``.
    """

    def __init__(self, max_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self.max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; reading the body of the response raises if it is too large.

        Raises:
            httpx.DecodingError: If the body is compressed.
        """
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx.DecodingError(
                "the server compresses its responses although it was asked not to", request=request
            )
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _CappedStream(stream, self.max_bytes)
        return response


class _CappedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, max_bytes: int) -> None:
        self.stream = stream
        self.max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self.stream:
            received += len(chunk)
            if received > self.max_bytes:
                raise httpx.DecodingError(f"the response is longer than {self.max_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Close the stream."""
        await self.stream.aclose()


class Worker(threading.Thread):
    """Runs a coroutine in a thread of its own.

    Args:
        work: The coroutine.
        on_end: Called in the thread when the coroutine has ended, whether it raised or not.

    Attributes:
        error: What the coroutine raised; None if it did not raise.
    """

    def __init__(self, work: Coroutine[Any, Any, None], on_end: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._work = work
        self._on_end = on_end
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Run the coroutine to its end; called by ``start()``."""
        asyncio.set_event_loop(self._loop)
        try:
            task = self._task = self._loop.create_task(self._work)
            self._loop.run_until_complete(asyncio.wait({task}))
            if not task.cancelled():
                self.error = _main_error(task.exception())
        finally:
            self._loop.close()
            self._on_end()

    def cancel(self) -> None:
        """Cancel the coroutine if it still runs, and wait for its end."""
        if self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()


def _main_error(error: BaseException | None) -> BaseException | None:
    """Return the error that matters in a group: one that the user can act on, or the first."""
    if isinstance(error, BaseExceptionGroup):
        error = error.subgroup(CaiError) or error
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
