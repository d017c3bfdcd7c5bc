"""The server backend: vLLM, SGLang, ``transformers serve`` and hosted APIs.

A run file names it as ``http://host:8000/v1#model``, or as several base URLs with commas between
them. The key is read from ``OPENAI_API_KEY`` and never written or shown.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast, get_args

import httpx2 as httpx

from cai.arguments import check_choice
from cai.backends import openai_protocol
from cai.backends.capabilities import probe, probe_continuation
from cai.backends.endpoint import Endpoint, ServedModel, ServerSettings
from cai.backends.identity import Identity, identify
from cai.backends.openai_schema import Dialect
from cai.backends.protocol import Request, Response
from cai.backends.server_address import form_problem, urls_of
from cai.backends.transport import CappedTransport, Worker
from cai.errors import CaiError, InputError, LimitReached, Problem

__all__ = ["ServerBackend", "ServerSettings"]

MAX_FAILURES_IN_A_ROW = 40
"""The run stops when this many requests fail with none between them that succeeds."""
CONNECT_TIMEOUT = 10.0
"""Seconds."""
POLL_INTERVAL = 0.5
"""Seconds after which waiting for a response is interrupted, to look for a Ctrl-C."""

_ResponseQueue = queue.Queue[tuple[int, Response] | None]


class ServerBackend:
    """Responds by sending many requests at a time to OpenAI-compatible servers.

    A request that fails has a response with ``finish_reason="failed"`` and the reason. What no
    request can get past (a refused key, an unknown model, a quota that is used up, a server that is
    gone) stops the run; all responses so far are kept.

    Args:
        spec: One or several base URLs, separated by commas, then ``#`` and the model's name there.
        chat_format: ``chat``, ``transcript`` or ``plain``; ``chat`` by default.
        enable_thinking: Whether a reasoning model may reason before it answers.
        settings: Limits on time, size and concurrency.

    Attributes:
        urls: The base URLs.
        spec: The name of the server that was given.
        fingerprint: Names the model and how it is asked and, once :meth:`identify` was called, a
            digest of which model it is. The URLs are not part of it, so a server may move without
            making its responses in the cache useless.
        settings: Limits on time, size and concurrency.

    Raises:
        InputError: If the form of ``spec`` is wrong, or there is no such chat format.
    """

    def __init__(
        self,
        spec: str,
        chat_format: str = "",
        *,
        enable_thinking: bool = False,
        settings: ServerSettings | None = None,
    ) -> None:
        if problem := form_problem(spec):
            raise InputError(problem)
        check_choice("chat_format", chat_format or "chat", get_args(Dialect))
        dialect = cast("Dialect", chat_format or "chat")
        self.spec = spec
        self.urls = urls_of(spec)
        self.settings = settings or ServerSettings()
        self._model = ServedModel(spec.partition("#")[2], dialect, enable_thinking)
        parts = ["server", self._model.name]
        if dialect != "chat":
            parts.append(dialect)
        if enable_thinking:
            parts.append("enable_thinking")
        self._name = self.fingerprint = ":".join(parts)
        self._identity: Identity | None = None
        self._probes: list[Response] = []
        self._queue: _RequestQueue | None = None

    @property
    def notes(self) -> list[str]:
        """What the user should know about the servers, such as missing capabilities."""
        return self._model.notes

    def identify(self) -> None:
        """Find out which model the servers have, and add it to the fingerprint.

        Raises:
            InputError: If they have different models, refuse the key or do not know the model.
            LimitReached: If they do not answer.
        """
        if self.fingerprint != self._name:
            return
        worker = Worker(self._identify(), lambda: None)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(POLL_INTERVAL)
        finally:
            worker.cancel()
        if worker.error:
            raise worker.error

    def assume(self, fingerprint: str) -> None:
        """Take a server that does not answer for the one that it was before.

        Args:
            fingerprint: Its fingerprint then; another model is refused once it answers.
        """
        self.fingerprint = fingerprint

    def take_probes(self) -> list[Response]:
        """Return the responses to requests of the backend's own, each once."""
        probes, self._probes = self._probes, []
        return probes

    def render(self, request: Request) -> str:
        """Return what the model reads; the turns, if the server renders them."""
        return openai_protocol.render(request, self._model.dialect)

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """Send the requests, and yield the responses as they come in.

        The requests run in a thread of their own, until the last one is done or the iterator is
        closed. The first Ctrl-C stops sending: responses in flight are still yielded, since they
        have to be paid for, and then KeyboardInterrupt is raised. A second one aborts.
        """
        if not requests:
            return
        responses: _ResponseQueue = queue.Queue()
        self._queue = pending = _RequestQueue(requests)
        worker = Worker(self._send_all(pending, responses.put), lambda: responses.put(None))
        worker.start()
        try:
            try:
                yield from _items(responses)
            except KeyboardInterrupt:
                pending.stop()
                yield from _items(responses)
                raise
            if worker.error:
                raise worker.error
        finally:
            worker.cancel()

    def stop(self) -> None:
        """Make the current :meth:`respond` send no more requests."""
        if self._queue:
            self._queue.stop()

    async def _identify(self) -> None:
        async with _http_client(self.settings) as http:
            endpoints = self._endpoints(http, lambda: False)
            await self._probe(endpoints[0])
            assert self._model.capabilities is not None
            for endpoint in endpoints[1:]:
                with self._counted_probes(endpoint):
                    other = await identify(endpoint, self._model.capabilities)
                assert self._identity is not None
                if endpoint.is_reachable and (what := self._identity.difference(other)):
                    raise InputError(
                        [
                            Problem(
                                f"{self.urls[0]}, {endpoint.url}",
                                f"are different models ({what}); give each a role of its own",
                            )
                        ]
                    )

    def _endpoints(self, http: httpx.AsyncClient, is_stopped: Callable[[], bool]) -> list[Endpoint]:
        return [Endpoint(url, http, self._model, self.settings, is_stopped) for url in self.urls]

    @contextmanager
    def _counted_probes(self, endpoint: Endpoint) -> Iterator[None]:
        """Keep the responses to probes, which have to be paid for too."""
        endpoint.probes = self._probes
        try:
            yield
        finally:
            endpoint.probes = None

    async def _send_all(
        self, pending: _RequestQueue, put: Callable[[tuple[int, Response]], None]
    ) -> None:
        settings = self.settings
        async with _http_client(settings) as http:
            endpoints = self._endpoints(http, lambda: pending.is_stopped)
            await self._probe(endpoints[0])
            await self._probe_continuation(endpoints[0], pending)
            # as many senders as may ever be active; the endpoint's rate limit says how many are
            senders = min(settings.concurrency, len(pending))
            async with asyncio.TaskGroup() as group:
                for endpoint in endpoints:
                    for _ in range(senders):
                        group.create_task(self._send_from(pending, endpoint, put))
            if pending.error:
                raise pending.error

    async def _probe(self, endpoint: Endpoint) -> None:
        """Find out, once, what a server can do and which model it has."""
        model = self._model
        if model.capabilities is not None:
            return
        with self._counted_probes(endpoint):
            capabilities = await probe(endpoint, enable_thinking=model.enable_thinking)
            self._identity = await identify(endpoint, capabilities)
        model.notes += [f"{endpoint.url} {text}" for text in capabilities.limitations()]
        fingerprint = f"{self._name}:{self._identity.digest}"
        if self.fingerprint not in (self._name, fingerprint):
            text = "does not have the model that it had before; run again to ask this one"
            raise LimitReached(f"{endpoint.url} {text}")
        self.fingerprint = fingerprint
        model.capabilities = capabilities

    async def _probe_continuation(self, endpoint: Endpoint, pending: _RequestQueue) -> None:
        model, can = self._model, self._model.capabilities
        assert can is not None
        is_needed = pending.has_begun_answers and model.dialect == "chat"
        if is_needed and can.continuation is None:
            with self._counted_probes(endpoint):
                can.continuation = await probe_continuation(endpoint, can)
            if can.continuation == "none":
                text = "does not continue a begun answer: options are asked for in words"
                model.notes.append(f"{endpoint.url} {text}")

    async def _send_from(
        self,
        pending: _RequestQueue,
        endpoint: Endpoint,
        put: Callable[[tuple[int, Response]], None],
    ) -> None:
        """Send requests from the queue to one server until the queue is empty or stopped."""
        assert self._model.capabilities is not None
        for index, request in pending:
            try:
                response = await endpoint.send(request, self._model.capabilities)
                pending.check(response, endpoint.url)
            except CaiError as error:  # stops the run, but requests in flight may still end
                pending.stop(error)
                return
            # a request that was given up because of the stop has no response
            if response.finish_reason != "failed" or not pending.is_stopped:
                put((index, response))


class _RequestQueue:
    """Hands out requests to several senders, until it is empty or stopped."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._items = iter(enumerate(requests))
        self._failures_in_a_row = 0
        self.is_stopped = False
        self.error: CaiError | None = None

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def has_begun_answers(self) -> bool:
        """Whether the answer to any request was begun."""
        return any(request.answer_prefix for request in self._requests)

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        while not self.is_stopped:
            item = next(self._items, None)
            if item is None:
                return
            yield item

    def stop(self, error: CaiError | None = None) -> None:
        """Hand out no more requests; the first error is the one to raise."""
        self.is_stopped = True
        self.error = self.error or error

    def check(self, response: Response, url: str) -> None:
        """Raise if too many requests have failed with none between them that succeeded."""
        is_failure = response.finish_reason == "failed"
        self._failures_in_a_row = self._failures_in_a_row + 1 if is_failure else 0
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            raise LimitReached(
                f"{url}: {self._failures_in_a_row} requests in a row failed, the last one with: "
                f"{response.reason}; run again to continue"
            )


def _items(responses: _ResponseQueue) -> Iterator[tuple[int, Response]]:
    """Yield the items of a queue until None.

    Python does not notice a Ctrl-C that arrives at the moment when it begins to block, so it never
    blocks for long.
    """
    while True:
        try:
            item = responses.get(timeout=POLL_INTERVAL)
        except queue.Empty:
            continue
        if item is None:
            return
        yield item


def _http_client(settings: ServerSettings) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency)
    return httpx.AsyncClient(
        transport=CappedTransport(settings.max_bytes, limits=limits),
        timeout=httpx.Timeout(settings.deadline, connect=CONNECT_TIMEOUT),
        # the size of a compressed body is unknown
        headers={"Accept-Encoding": "identity"},
    )
