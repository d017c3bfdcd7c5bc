"""The memory of all model calls of a run: one SQLite file, one row per call, keyed on everything the answer depends on.

A call is a pure function of (model fingerprint, exact rendered prompt, sampling values, seed), so resuming after a kill,
re-running after an edit, removing duplicates and counting tokens are all the same thing: looking up that key.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

from cai import distributed
from cai.backends.budget import Budget
from cai.backends.protocol import (
    Backend,
    Completion,
    GenerateRequest,
    OptionLogprobs,
    Request,
    Response,
    cleaned,
)
from cai.errors import InputError, LimitReached, Problem
from cai.files import StrPath
from cai.keys import digest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, kind TEXT NOT NULL, answer TEXT NOT NULL,
    tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL
) WITHOUT ROWID;
"""
_VERSION = 1
_ROWS, _SECONDS = 64, 0.5
"""Answers wait for one another before they are stored, but only so many and so long."""

Progress = Callable[[int, int], None]
"""Called with (answered, all) requests of a batch while it is answered, and once when it is done."""


@dataclass
class Usage:
    """What a stage asked for: ``requests`` went to the model, ``cached`` were remembered (or asked twice in one go)."""

    requests: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class ResponseCache:
    """The store of answers. ``cached_model(backend, stage)`` gives what the verbs call."""

    def __init__(self, path: StrPath, budget: Budget | None = None) -> None:
        path = Path(path)
        self.path, self.budget = path, budget or Budget()
        self.usage: dict[str, Usage] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise InputError(
                    [
                        Problem(
                            str(path), f"was written by a newer version of cai (format {version})"
                        )
                    ]
                )
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")
        except (
            sqlite3.OperationalError
        ) as error:  # full, locked, not to be written; what it holds is well
            raise LimitReached(
                f"{path}: {error}; what was answered before is kept, free some space and run again"
            ) from None
        except sqlite3.DatabaseError as error:
            raise InputError(
                [
                    Problem(
                        str(path),
                        f"cannot be used as the memory of a run: {error}; move it away to start anew",
                    )
                ]
            ) from None
        except OSError as error:
            raise InputError([Problem(str(path), f"cannot be written: {error.strerror}")]) from None
        before = self.totals().values()
        self._ever = Usage(
            sum(c.requests for c in before),
            0,
            sum(c.tokens_in for c in before),
            sum(c.tokens_out for c in before),
        )

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
        """A function from calls to answers, in order, that asks the backend only for what is not remembered.

        ``shard``: all processes ask for the same, and each has a share of it answered.
        """
        return CachedModel(self, backend, stage, progress, shard)

    def find(self, keys: Sequence[str]) -> dict[str, Response]:
        """The remembered answers among ``keys``."""
        found: dict[str, Response] = {}
        for at in range(0, len(keys), 500):
            chunk = keys[at : at + 500]
            judge_test_metrics = ",".join("?" * len(chunk))
            for key, kind, answer in self._db.execute(
                f"SELECT key, kind, answer FROM calls WHERE key IN ({judge_test_metrics})", chunk
            ):
                found[key] = _decoded(kind, answer)
        return found

    def store(self, rows: Sequence[tuple[str, str, Response]]) -> None:
        """Remember ``(key, stage, answer)`` rows in one transaction."""
        values = [
            (key, stage, type(a).__name__, _encoded(a), a.tokens_in, getattr(a, "tokens_out", 0))
            for key, stage, a in rows
        ]
        try:
            with self._db:
                self._db.executemany(
                    "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?)", values
                )
        except sqlite3.OperationalError as error:
            raise LimitReached(
                f"{self.path}: {error}; what was answered before is kept, free some space and run again"
            ) from None

    def spend(self, stage: str, answer: Response) -> None:
        """Count one answer of a model, for its stage and against the budget."""
        for counts in (self.usage.setdefault(stage, Usage()), self._ever):
            counts.requests += 1
            counts.tokens_in += answer.tokens_in
            counts.tokens_out += getattr(answer, "tokens_out", 0)

    def calls_left(self) -> int | None:
        """How many calls the budget still has room for; None where they have no limit."""
        return (
            None
            if math.isinf(self.budget.requests)
            else max(0, math.ceil(self.budget.requests) - self._ever.requests)
        )

    def check_budget(self) -> None:
        """Stop where the budget is used up.

        Raises:
            LimitReached: naming the limit; what was answered is kept.
        """
        if reached := self.budget.used_up(
            self._ever.requests, self._ever.tokens_in, self._ever.tokens_out
        ):
            raise LimitReached(
                f"the budget is used up ({reached}); what was answered is kept, run again with a larger one to go on"
            )

    def totals(self) -> dict[str, Usage]:
        """Per stage, the calls ever made and their tokens, over all runs of the command."""
        rows = self._db.execute(
            "SELECT stage, COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM calls GROUP BY stage"
        )
        return {
            stage: Usage(requests, 0, tokens_in or 0, tokens_out or 0)
            for stage, requests, tokens_in, tokens_out in rows
        }


class CachedModel:
    """Asks one backend for one stage, by way of the memo."""

    def __init__(
        self,
        cache: ResponseCache,
        backend: Backend,
        stage: str,
        progress: Progress | None,
        shard: bool = True,
    ) -> None:
        self.cache, self.backend, self.stage, self.progress = cache, backend, stage, progress
        self.shard = shard and distributed.count() > 1

    @property
    def fingerprint(self) -> str:
        return self.backend.fingerprint

    def __call__(self, requests: Sequence[Request]) -> list[Response]:
        """The answers to ``requests``, in order."""
        keys = [
            key_of(self.backend.fingerprint, self.backend.render(request), request)
            for request in requests
        ]
        answers = self.cache.find(list(dict.fromkeys(keys)))
        missing = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in answers
        }
        self.cache.usage.setdefault(self.stage, Usage()).cached += len(requests) - len(missing)
        asked = dict(islice(missing.items(), self.cache.calls_left()))
        done = len(requests) - len(missing)
        total = done + len(asked)
        if self.shard:
            answers |= self._shared(asked, done, total)
        else:
            answers |= self._answered(asked, done, total)
        self._tell(total, total)
        if len(asked) < len(missing):
            self.cache.check_budget()
        return [answers[key] for key in keys]

    def _shared(self, missing: dict[str, Request], done: int, total: int) -> dict[str, Response]:
        """The answers to ``missing``, of which every process gets a share."""
        distributed.wait()  # all must have seen the same before the first answer is stored
        share = {key: missing[key] for key in distributed.share(list(missing))}
        mine = self._answered(share, done, total)
        found: dict[str, Response] = {}
        for number, part in enumerate(distributed.gather(mine)):
            found |= part
            if number != distributed.rank():
                for answer in part.values():
                    self.cache.spend(self.stage, answer)
        return found

    def _answered(self, missing: dict[str, Request], done: int, total: int) -> dict[str, Response]:
        """The backend's answers, each stored as soon as its batch is done."""
        answers: dict[str, Response] = {}
        names = list(missing)
        pending: list[tuple[str, str, Response]] = []
        stored = time.monotonic()
        if missing:
            self.cache.check_budget()
        try:
            for i, raw in _within(
                self.backend.respond(list(missing.values())), self.cache, len(missing)
            ):
                answers[names[i]] = answer = cleaned(raw)
                if answer.finish_reason != "failed":  # what failed may work another time
                    pending.append((names[i], self.stage, answer))
                self.cache.spend(self.stage, answer)
                done += 1
                if len(pending) >= _ROWS or time.monotonic() - stored > _SECONDS:
                    self.cache.store(pending)
                    pending, stored = [], time.monotonic()
                    if done < total:  # the caller reports the end, once
                        self._tell(done, total)
        finally:
            self.cache.store(pending)
        return answers

    def _tell(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)


def _within(
    answers: Iterator[tuple[int, Response]], cache: ResponseCache, count: int
) -> Iterator[tuple[int, Response]]:
    """The answers until the budget is used up, and then those that are on their way and will have to be paid."""
    for number, item in enumerate(answers, start=1):
        yield item
        if number == count:
            continue
        try:
            cache.check_budget()
        except LimitReached as reached:
            if isinstance(answers, Generator):
                yield answers.throw(
                    reached
                )  # which a backend with calls on their way raises again after the last of them
                yield from answers
            raise


def key_of(fingerprint: str, render: str, request: Request) -> str:
    """The identity of a call: the model's function, the exact text it reads, and what is done with it."""
    values = vars(
        request
    ).copy()  # shallow: a deep copy of the messages would cost more than all else here
    values.pop("messages")
    if isinstance(request, GenerateRequest) and request.temperature == 0:
        values.pop("seed")  # a greedy answer has no chance in it
    return digest([fingerprint, render, type(request).__name__, values], 40)


def _encoded(answer: Response) -> str:
    return json.dumps(vars(answer), ensure_ascii=True)


def _decoded(kind: str, text: str) -> Response:
    values = json.loads(text)
    if kind == OptionLogprobs.__name__:
        return OptionLogprobs(**values | {"logprobs": tuple(values["logprobs"])})
    return cleaned(Completion(**values))
