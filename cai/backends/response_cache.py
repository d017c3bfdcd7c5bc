"""A cache of all model responses of a run: one SQLite file with one row per request.

A response depends only on the model, the exact prompt, the sampling values and the seed. The key of
a row is a digest of these. Resuming after a crash, running again after an edit, removing duplicates
and counting tokens are therefore all the same operation: a lookup by key.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cai import distributed
from cai.backends.budget import Budget, Usage
from cai.backends.cache_format import FORMAT, SCHEMA, cache_key, decode, encode
from cai.backends.protocol import Backend, Request, Response, clean_response
from cai.errors import InputError, LimitReached, Problem
from cai.files import StrPath
from cai.templates import Templates, TemplateSet

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


class ResponseCache:
    """A file of responses, and the count of what was used to get them.

    Use it as a context manager, and pass what :meth:`cached_model` returns to the functions of
    ``cai``.

    Args:
        path: The SQLite file, created if needed; ``:memory:`` keeps the responses in memory only.
        budget: Limits on all requests ever stored in the file and made now; none by default.

    Attributes:
        path: The file.
        budget: The limits.
        usage: What was used since the cache was opened, by stage.

    Raises:
        InputError: If the file is not a cache, is of another version, or cannot be written.
        LimitReached: If the disk is full or another process locks the file.
    """

    def __init__(self, path: StrPath, budget: Budget | None = None) -> None:
        self.path = Path(path)
        self.budget = budget or Budget()
        self.usage: dict[str, Usage] = {}
        self._db = self._open()
        self._total = Usage()
        for stored in self.totals().values():
            self._total.requests += stored.requests
            self._total.tokens_in += stored.tokens_in
            self._total.tokens_out += stored.tokens_out

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(f"cannot be written: {error.strerror}") from None
        try:
            with self._disk_errors():
                db = sqlite3.connect(self.path, timeout=30)
                try:
                    self._prepare(db)
                except BaseException:
                    db.close()
                    raise
                return db
        except sqlite3.DatabaseError as error:
            raise self._unusable(
                f"is not a response cache ({error}); move it away to start over"
            ) from None

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Check the version of the file before anything is written to it; create the table."""
        version = db.execute("PRAGMA user_version").fetchone()[0]
        is_new = version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone()
        if version != FORMAT and not is_new:
            age = "a newer" if version > FORMAT else "an older"
            raise self._unusable(
                f"was written by {age} version of cai (format {version}, not {FORMAT}); "
                "move it away to start over"
            )
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(SCHEMA)
        db.execute(f"PRAGMA user_version={FORMAT}")

    def _unusable(self, message: str) -> InputError:
        return InputError([Problem(str(self.path), message)])

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn a full or locked disk into a limit: what is stored is intact."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LimitReached(
                f"{self.path}: {error}; all stored responses are kept, "
                "free some space and run again"
            ) from None

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def cached_model(
        self,
        backend: Backend,
        stage: str = "",
        progress: Progress | None = None,
        *,
        shard: bool = True,
    ) -> CachedModel:
        """Put the cache in front of a backend.

        Args:
            backend: Responds to requests that are not in the cache.
            stage: Name under which usage is counted.
            progress: Called with the number of requests done and their total.
            shard: Whether several processes that send the same requests each do a share of them.

        Returns:
            A model that maps requests to responses.
        """
        return CachedModel(self, backend, stage, progress, shard=shard)

    def find(self, keys: Sequence[str]) -> dict[str, Response]:
        """Return the stored responses among ``keys``, by key."""
        rows = self._db.execute(
            "SELECT key, kind, response FROM responses"
            " WHERE key IN (SELECT value FROM json_each(?))",
            [json.dumps(keys)],
        )
        return {key: decode(kind, text) for key, kind, text in rows}

    def store(self, rows: Sequence[tuple[str, str, Response]]) -> None:
        """Store responses in one transaction.

        Args:
            rows: Key, stage and response of each row.

        Raises:
            LimitReached: If the disk is full.
        """
        values = [
            (key, stage, *encode(response), response.tokens_in, response.tokens_out)
            for key, stage, response in rows
        ]
        statement = "INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?)"
        with self._disk_errors(), self._db:
            self._db.executemany(statement, values)

    def count(self, stage: str, response: Response) -> None:
        """Count a response of the model, for its stage and against the budget."""
        self.usage.setdefault(stage, Usage()).add(response)
        self._total.add(response)

    def requests_left(self) -> int | None:
        """Return how many more requests the budget allows; None if there is no limit."""
        return self.budget.requests_left(self._total)

    def limit_reached(self) -> LimitReached | None:
        """Return an error that names the limits of the budget that are reached, if any."""
        exceeded = self.budget.exceeded(self._total)
        if not exceeded:
            return None
        return LimitReached(
            f"the budget is used up ({exceeded}); all responses are kept, "
            "run again with a larger budget to continue"
        )

    def totals(self) -> dict[str, Usage]:
        """Return the requests and tokens behind all stored responses, by stage."""
        rows = self._db.execute(
            "SELECT stage, COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM responses GROUP BY stage"
        )
        return {
            stage: Usage(requests, 0, tokens_in, tokens_out)
            for stage, requests, tokens_in, tokens_out in rows
        }


class CachedModel:
    """A backend with a cache in front of it, for one stage; see :meth:`ResponseCache.cached_model`.

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

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the backend."""
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
        keys = [
            cache_key(self.fingerprint, self.backend.render(request), request)
            for request in requests
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
                response = clean_response(raw)
                responses[keys[index]] = response
                self.cache.count(self.stage, response)
                # a failed request may succeed when it is sent again, so it is not stored
                if response.finish_reason != "failed":
                    writer.add(_Row(keys[index], self.stage, response))
                # the caller reports the end, once
                if writer.flush_if_due() and done + len(responses) < total:
                    self._report(done + len(responses), total)
                if limit is None and len(responses) < len(missing):
                    limit = self.cache.limit_reached()
                    if limit:
                        self.backend.stop()
        if len(responses) < len(missing):
            raise limit or self._incomplete(len(responses), len(missing))
        return responses

    def _incomplete(self, received: int, expected: int) -> InputError:
        message = f"respond() yielded {received} of {expected} responses; it must yield every one"
        return InputError([Problem(f"backend {self.fingerprint}", message)])

    def _report(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)


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
