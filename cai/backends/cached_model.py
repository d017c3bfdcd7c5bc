"""Backends with a response cache in front of them: what the functions of ``cai`` ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cai import distributed
from cai.backends.batch_log import BatchLog
from cai.backends.budget import Usage
from cai.backends.cache_format import cache_key
from cai.backends.protocol import Backend, Model, Request, Response, clean_response
from cai.backends.side_by_side import Call, respond_side_by_side
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
        return _Asking([self]).ask([requests])[0]

    def keys(self, requests: Sequence[Request]) -> list[str]:
        """Return the keys of requests in the cache."""
        fingerprint, render = self.fingerprint, self.backend.render
        return [cache_key(fingerprint, render(request), request) for request in requests]

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
            self.check_budget()
            server.identify()
        except CaiError:
            if not before:
                raise
            server.assume(before)
            return
        finally:
            self.pay_probes()
        if before and before != server.fingerprint:
            self.cache.notes.append(
                f"{server.spec} has another model than before: its earlier answers are not used"
            )
        self.cache.remember(server.spec, server.fingerprint, server.identity.json)

    def pay_probes(self) -> None:
        """Count the requests that the backend made of its own."""
        probes: Sequence[Response] = getattr(self.backend, "take_probes", tuple)()
        for response in probes:
            self.cache.count(self.stage, response)
        if probes:
            self.cache.store([("", self.stage, response) for response in probes])

    def check_budget(self) -> None:
        """Raise LimitReached if the budget is used up."""
        if error := self.cache.limit_reached():
            raise error


def ask_all(models: Sequence[Model], requests: Sequence[Sequence[Request]]) -> list[list[Response]]:
    """Ask several models; those on different servers at the same time.

    Args:
        models: The models.
        requests: The requests to each of them.

    Returns:
        The responses of each model, as it would return them itself.

    Raises:
        LimitReached: If the budget does not suffice; all responses so far are stored.
    """
    cached = [model for model in models if isinstance(model, CachedModel)]
    shared = {(id(model.cache), model.stage, model.shard) for model in cached}
    if len(cached) == len(models) and len(shared) == 1:
        return _Asking(cached).ask(requests)
    return [model(own) for model, own in zip(models, requests, strict=True)]


class _Missing(NamedTuple):
    """A request that the cache does not answer, and the number of the model that is to."""

    model: int
    request: Request


class _Asking:
    """Asks models with one cache, for one stage.

    Args:
        models: The models.
    """

    def __init__(self, models: Sequence[CachedModel]) -> None:
        first = models[0]
        self.models = models
        self.cache, self.stage = first.cache, first.stage
        self.progress, self.shard = first.progress, first.shard

    def ask(self, requests: Sequence[Sequence[Request]]) -> list[list[Response]]:
        """Return the responses of each model to its requests."""
        keys = [model.keys(own) for model, own in zip(self.models, requests, strict=True)]
        every = [key for own in keys for key in own]
        responses = self.cache.find(list(dict.fromkeys(every)))
        missing = {
            key: _Missing(number, request)
            for number, asked in enumerate(zip(keys, requests, strict=True))
            for key, request in zip(*asked, strict=True)
            if key not in responses
        }
        usage = self.cache.usage.setdefault(self.stage, Usage())
        usage.cached += len(every) - len(missing)
        affordable = dict(islice(missing.items(), self.cache.requests_left()))
        done = len(every) - len(missing)
        total = done + len(affordable)
        respond = self._respond_sharded if self.shard else self._respond
        try:
            responses |= respond(affordable, done, total)
        finally:
            for model in self.models:
                model.pay_probes()
        self._report(total, total)
        if len(affordable) < len(missing):
            self.models[0].check_budget()
        return [[responses[key] for key in own] for own in keys]

    def _respond_sharded(
        self, missing: dict[str, _Missing], done: int, total: int
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

    def _respond(self, missing: dict[str, _Missing], done: int, total: int) -> dict[str, Response]:
        """Get responses from the backends and store them as they come in.

        When the budget is used up, the backends are stopped. The responses to requests that are
        already in flight are still stored, since they have to be paid for.
        """
        if not missing:
            return {}
        self.models[0].check_budget()
        by_model: dict[int, list[str]] = {}
        for key, (number, _) in missing.items():
            by_model.setdefault(number, []).append(key)
        asked = [self.models[number] for number in by_model]
        keys = list(by_model.values())
        calls = [
            Call(model.backend, [missing[key].request for key in own])
            for model, own in zip(asked, keys, strict=True)
        ]
        responses: dict[str, Response] = {}
        limit: LimitReached | None = None
        with _Writer(self.cache) as writer:
            for number, index, raw in respond_side_by_side(calls):
                model, key, response = asked[number], keys[number][index], clean_response(raw)
                model.pay_probes()
                responses[key] = response
                self.cache.count(self.stage, response)
                writer.add(_Row(key, self.stage, response))
                # the caller reports the end, once
                is_whole = getattr(model.backend, "is_between_batches", True)
                if is_whole and writer.flush_if_due() and done + len(responses) < total:
                    self._report(done + len(responses), total)
                if limit is None and len(responses) < len(missing):
                    limit = self.cache.limit_reached()
                    if limit:
                        for call in calls:
                            call.backend.stop()
        for model in asked:
            getattr(model.backend, "forget_batches", lambda: None)()  # their responses are stored
        if len(responses) < len(missing):
            raise limit or _incomplete(calls, keys, responses)
        return responses

    def _report(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)


def _incomplete(
    calls: Sequence[Call], keys: Sequence[Sequence[str]], responses: Mapping[str, Response]
) -> InputError:
    """An error that names the backends that left requests out."""
    problems = []
    for call, own in zip(calls, keys, strict=True):
        received = sum(key in responses for key in own)
        text = f"respond() yielded {received} of {len(own)} responses; it must yield every one"
        if received < len(own):
            problems.append(Problem(f"backend {call.backend.fingerprint}", text))
    return InputError(problems)


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
