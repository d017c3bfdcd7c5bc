"""What carries calls to a server: connections that refuse endless bodies, and a thread in which many calls wait at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx2 as httpx

from cai.errors import CaiError


class CappedTransport(httpx.AsyncHTTPTransport):
    """Refuses bodies over a size, and packed ones, whose size says nothing."""

    def __init__(self, cap: int, **options: Any) -> None:
        super().__init__(**options)
        self.cap = cap

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx.DecodingError(
                "the server packs its answers although it was asked not to", request=request
            )
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _CappedStream(stream, self.cap)
        return response


class _CappedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, cap: int) -> None:
        self.stream, self.cap = stream, cap

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self.stream:
            seen += len(chunk)
            if seen > self.cap:
                raise httpx.DecodingError(f"the answer is longer than {self.cap} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.stream.aclose()


class Worker(threading.Thread):
    """Runs a coroutine to its end in a thread, keeps what it raised, and tells when it is over."""

    def __init__(self, work: Coroutine[Any, Any, None], tell: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work, self._tell, self._loop = work, tell, asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._task = self._loop.create_task(self._work)
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            self.error = _first(group)
        except BaseException as error:
            self.error = error
        finally:
            self._loop.close()
        self._tell()

    def stop(self) -> None:
        """End the work, if it has not ended, and wait for it."""
        if self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of ours in a group if there is one, else the first of all."""
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((leaf for leaf in leaves if isinstance(leaf, CaiError)), leaves[0])
