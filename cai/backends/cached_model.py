"""A backend with a response cache in front of it: what the functions of ``cai`` ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cai import distributed
from cai.backends.batch_log import BatchLog
from cai.backends.budget import Usage
from cai.backends.cache_format import cache_key
from cai.backends.protocol import Backend, Request, Response, clean_response
from cai.errors import CaiError, InputError, LimitReached, Problem
from cai.templates import Templates, TemplateSet

if TYPE_CHECKING:
    from cai.backends.response_cache import ResponseCache

_ROWS_PER_WRITE = 64
_SECONDS_PER_WRITE = 0.5
"""Responses are written in groups, at the latest after this time."""

Progress = Callable[[int, int], None]
"""Receives the number of requests that are done, and of all requests."""


class _Row(NamedTuple):
    """A response to be stored."""

    key: str
    stage: str
    response: Response


class CachedModel:
    """A backend with a cache in front of it, for one stage.

    :meth:`cai.ResponseCache.cached_model` makes it.

    Attributes:
        cache: The cache.
        backend: Responds to requests that are not in the cache.
        stage: Name under which usage is counted.
        progress: Called with the number of requests done and their total.
        shard: Whether several processes each do a share of the requests.
    """

    def __init__(
        self,
        cache: ResponseCache,
        backend: Backend,
        stage: str,
        progress: Progress | None,
        *,
        shard: bool = True,
    ) -> None:
        self.cache = cache
        self.backend = backend
        self.stage = stage
        self.progress = progress
        self.shard = shard and distributed.count() > 1
        self._is_identified = not hasattr(backend, "identify")
        if getattr(backend, "is_batched", False) and str(cache.path) != ":memory:":
            server: Any = backend
            server.batch_log = BatchLog(cache.path.with_suffix(".batches"))

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the backend; a server is asked which model it has."""
        self._identify()
        return self.backend.fingerprint

    @property
    def template_set(self) -> TemplateSet:
        """The prompt templates that the backend's model reads."""
        return Templates.for_model(self.backend).base

    def __call__(self, requests: Sequence[Request]) -> list[Response]:
        """Return the responses, in the order of the requests.

        Args:
            requests: The requests; equal ones are sent once.

        Returns:
            One response for each request.

        Raises:
            LimitReached: If the budget does not suffice; all responses so far are stored.
        """
        fingerprint = self.fingerprint
        keys = [
            cache_key(fingerprint, self.backend.render(request), request) for request in requests
        ]
        responses = self.cache.find(list(dict.fromkeys(keys)))
        missing = {
            key: request
            for key, request in zip(keys, requests, strict=True)
            if key not in responses
        }
        usage = self.cache.usage.setdefault(self.stage, Usage())
        usage.cached += len(requests) - len(missing)
        affordable = dict(islice(missing.items(), self.cache.requests_left()))
        done = len(requests) - len(missing)
        total = done + len(affordable)
        if self.shard:
            responses |= self._respond_sharded(affordable, done, total)
        else:
            responses |= self._respond(affordable, done, total)
        self._report(total, total)
        if len(affordable) < len(missing):
            self._check_budget()
        return [responses[key] for key in keys]

    def _identify(self) -> None:
        """Let a server say which model it has.

        One that is gone, or that the budget does not allow to ask, counts as what it was before.
        """
        if self._is_identified:
            return
        self._is_identified = True
        server: Any = self.backend
        before = self.cache.fingerprint_of(server.spec)
        server.recall(self.cache.identities())
        try:
            self._check_budget()
            server.identify()
        except CaiError:
            if not before:
                raise
            server.assume(before)
            return
        finally:
            self._pay(server.take_probes())
        if before and before != server.fingerprint:
            self.cache.notes.append(
                f"{server.spec} has another model than before: its earlier answers are not used"
            )
        self.cache.remember(server.spec, server.fingerprint, server.identity.json)

    def _pay(self, probes: Sequence[Response]) -> None:
        """Count requests that a backend made of its own."""
        for response in probes:
            self.cache.count(self.stage, response)
        if probes:
            self.cache.store([("", self.stage, response) for response in probes])

    def _check_budget(self) -> None:
        if error := self.cache.limit_reached():
            raise error

    def _respond_sharded(
        self, missing: dict[str, Request], done: int, total: int
    ) -> dict[str, Response]:
        """Let every process respond to its share of the requests, and gather all responses."""
        # every process must look up its keys before the first response is stored
        distributed.wait()
        own_keys = distributed.share(list(missing))
        own = self._respond({key: missing[key] for key in own_keys}, done, total)
        responses: dict[str, Response] = {}
        for rank, shard in enumerate(distributed.gather(own)):
            responses |= shard
            if rank != distributed.rank():
                for response in shard.values():
                    self.cache.count(self.stage, response)
        return responses

    def _respond(self, missing: dict[str, Request], done: int, total: int) -> dict[str, Response]:
        """Get responses from the backend and store them as they come in.

        When the budget is used up, the backend is stopped. The responses to requests that are
        already in flight are still stored, since they have to be paid for.
        """
        if not missing:
            return {}
        self._check_budget()
        keys = list(missing)
        responses: dict[str, Response] = {}
        limit: LimitReached | None = None
        with _Writer(self.cache) as writer:
            for index, raw in self.backend.respond(list(missing.values())):
                self._pay(_probes_of(self.backend))
                response = clean_response(raw)
                responses[keys[index]] = response
                self.cache.count(self.stage, response)
                writer.add(_Row(keys[index], self.stage, response))
                # the caller reports the end, once
                is_whole = getattr(self.backend, "is_between_batches", True)
                if is_whole and writer.flush_if_due() and done + len(responses) < total:
                    self._report(done + len(responses), total)
                if limit is None and len(responses) < len(missing):
                    limit = self.cache.limit_reached()
                    if limit:
                        self.backend.stop()
        getattr(self.backend, "forget_batches", lambda: None)()  # their responses are stored
        if len(responses) < len(missing):
            raise limit or self._incomplete(len(responses), len(missing))
        return responses

    def _incomplete(self, received: int, expected: int) -> InputError:
        message = f"respond() yielded {received} of {expected} responses; it must yield every one"
        return InputError([Problem(f"backend {self.fingerprint}", message)])

    def _report(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)


def _probes_of(backend: Any) -> Sequence[Response]:
    return backend.take_probes() if hasattr(backend, "take_probes") else ()


class _Writer:
    """Stores responses in groups; what is left is stored on exit, whatever happens."""

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache
        self._pending: list[_Row] = []
        self._written = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cache.store(self._pending)

    def add(self, row: _Row) -> None:
        """Add a response to the next group."""
        self._pending.append(row)

    def flush_if_due(self) -> bool:
        """Store the pending rows if they are many or old; return whether they were stored."""
        age = time.monotonic() - self._written
        if len(self._pending) < _ROWS_PER_WRITE and age <= _SECONDS_PER_WRITE:
            return False
        self.cache.store(self._pending)
        self._pending, self._written = [], time.monotonic()
        return True
