"""Send requests as files through a server's batch API, for less money, and pick the results up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx2 as httpx

from cai.backends.batch_api import BatchState
from cai.backends.batch_client import BatchClient
from cai.backends.batch_log import BatchLog, Submitted
from cai.backends.capabilities import Capabilities
from cai.backends.openai_protocol import VOTE_SAMPLES, InterruptedResponse
from cai.backends.openai_schema import Body, MalformedResponse, parse_body
from cai.backends.protocol import GenerateRequest, Request, Response, failed
from cai.backends.refusals import learn
from cai.backends.request_body import fields_of, response_of, with_own_settings, without_key
from cai.backends.served_model import ServedModel, ServerSettings
from cai.backends.server_address import access_to
from cai.backends.server_errors import ServerError, error_in, read_error
from cai.cleaning import clean_json, excerpt
from cai.config.servers import Address
from cai.errors import InputError, Problem
from cai.keys import digest

MAX_REQUESTS = 50_000
"""Requests in a file, at most; what providers allow."""
MAX_BYTES = 90_000_000
"""Size of a file, at most; providers allow 100 to 200 MB."""
ROUNDS = 3
"""How often a request is sent in a batch until it has a response."""
MAX_WAIT = 60.0
"""Seconds between two looks at a batch, at most."""
GROWTH = 1.5

Put = Callable[[tuple[int, Response]], None]


@dataclass
class _Question:
    """A request with the lines that it takes in a file; a vote may take several.

    Attributes:
        index: Its place among the requests.
        request: The request, with the server's own settings.
        lines: The fields of each line, by the id of the line.
        answers: The bodies that came back, by the id of the line.
        reason: Why there is no response yet.
    """

    index: int
    request: Request
    lines: dict[str, dict[str, Any]]
    answers: dict[str, Body] = field(default_factory=dict)
    reason: str = ""


class BatchSender:
    """Sends requests to one server in batches.

    Args:
        address: The server.
        http: The HTTP client, for files of any size.
        model: The model.
        settings: Limits; only the waits are used.
        can: What the server can do.
        log: Where batches are kept until their responses are stored.
        say: Tells the user something.
        is_stopped: Returns whether to leave the batches alone.
    """

    def __init__(
        self,
        address: Address,
        http: httpx.AsyncClient,
        model: ServedModel,
        settings: ServerSettings,
        can: Capabilities,
        log: BatchLog,
        say: Callable[[str], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        access = access_to(address)
        self._client = BatchClient(address.url, access, http, settings.first_wait, is_stopped)
        self._server, self._model, self._can = address.server, model, can
        self._log, self._say, self._is_stopped = log, say, is_stopped
        self._first_wait = settings.batch_wait
        self._clean = partial(without_key, key=access.key)
        self._asked_as = can
        self.finished: list[Submitted] = []

    async def send(self, requests: Sequence[Request], put: Put) -> None:
        """Send requests until each has a response, or was sent as often as it may be.

        Batches of an earlier run are waited for first.

        Args:
            requests: The requests.
            put: Called with the index and the response of each, when its batch has ended.
        """
        waiting = [
            self._question(index, with_own_settings(request, self._server))
            for index, request in enumerate(requests)
        ]
        for submitted in self._log.read(self._client.url):
            wanted = {line for question in waiting for line in question.lines}
            if wanted.intersection(submitted.ids):
                self._say(f"picking up the batch {submitted.batch or submitted.file}")
                waiting = await self._collect(submitted, waiting, put)
        for _ in range(ROUNDS):
            for chunk in list(_chunks(waiting, self._line)):
                if self._is_stopped():
                    return
                left = await self._collect(await self._submit(chunk), chunk, put)
                gone = {q.index for q in chunk} - {q.index for q in left}
                waiting = [question for question in waiting if question.index not in gone]
        for question in waiting if not self._is_stopped() else ():
            put((question.index, failed(question.request, question.reason)))

    def _question(self, index: int, request: Request) -> _Question:
        fields = fields_of(request, self._server, self._model, self._can)
        is_vote = not isinstance(request, GenerateRequest) and not self._can.logprobs
        name = digest([json.dumps(fields, sort_keys=True, default=str), repr(request)], 32)
        extra = fields.pop("extra_body", {})
        body = {**fields, **extra}
        if not is_vote or self._can.samples:
            return _Question(index, request, {name: body})
        body.pop("n", None)
        seeds = [{"seed": i} if "seed" in body else {} for i in range(VOTE_SAMPLES)]
        return _Question(index, request, {f"{name}-{i}": body | s for i, s in enumerate(seeds)})

    @property
    def _endpoint(self) -> str:
        return "/v1/chat/completions" if self._model.dialect == "chat" else "/v1/completions"

    def _line(self, name: str, body: dict[str, Any]) -> str:
        line = {"custom_id": name, "method": "POST", "url": self._endpoint, "body": body}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))

    async def _submit(self, questions: Sequence[_Question]) -> Submitted:
        """Submit a batch; it is on disk before there is anything to pay for."""
        lines = {name: body for q in questions for name, body in q.lines.items()}
        file = await self._client.upload([self._line(*item) for item in lines.items()])
        submitted = Submitted(self._client.url, file, "", tuple(lines))
        self._log.write(submitted)
        return await self._created(submitted)

    async def _created(self, submitted: Submitted) -> Submitted:
        state = await self._client.create(submitted.file, self._endpoint, self._model.name)
        submitted = replace(submitted, batch=state.id)
        self._log.write(submitted)
        self._say(
            f"batch {state.id}: {len(submitted.ids):,} requests at {submitted.url}; stopped at any "
            "moment, the same command picks it up again"
        )
        return submitted

    async def _collect(
        self, submitted: Submitted, questions: Sequence[_Question], put: Put
    ) -> list[_Question]:
        """Wait for a batch; return the questions without a response."""
        if not submitted.batch:
            found = await self._client.find(submitted.file)
            if found:
                submitted = replace(submitted, batch=found.id)
                self._log.write(submitted)
            else:
                submitted = await self._created(submitted)
        state = await self._ended(submitted)
        if state is None:
            return list(questions)
        by_line = {name: question for question in questions for name in question.lines}
        asked = {id(by_line[name]): by_line[name] for name in submitted.ids if name in by_line}
        for question in asked.values():
            question.reason = f"the batch {submitted.batch} {_ending(state)}"
        # what a line shows that the server does not take is for the next batch
        self._asked_as = replace(self._can, refused=set(self._can.refused))
        final: dict[int, Response] = {}
        for file in state.files:
            async for row in self._client.read(file):
                name = str(row.get("custom_id"))
                if name not in by_line or by_line[name].index in final:
                    continue
                response = self._read(by_line[name], name, row)
                if response is not None:
                    final[by_line[name].index] = response
                    put((by_line[name].index, response))
        self.finished.append(submitted)
        if state.status == "failed" and not final:
            self._log.remove(submitted)
            text = f"the batch {submitted.batch} failed: {state.problem or 'no reason is given'}"
            raise InputError([Problem(submitted.url, text)])
        return [self._asked_anew(q) for q in questions if q.index not in final]

    async def _ended(self, submitted: Submitted) -> BatchState | None:
        """Wait until a batch has ended; None if the wait is stopped, or the batch is gone."""
        wait, shown = self._first_wait, -1
        while not self._is_stopped():
            state = await self._client.look_up(submitted.batch)
            if state is None:
                self._log.remove(submitted)
                self._say(f"the batch {submitted.batch} is gone: its requests are sent again")
                return None
            if state.status != "running":
                return state
            if state.done != shown:
                total = state.total or len(submitted.ids)
                self._say(f"waiting for batch {submitted.batch}: {state.done:,} of {total:,}")
                shown = state.done
            await self._client.sleep(wait)
            wait = min(wait * GROWTH, MAX_WAIT)
        self._say(f"batch {submitted.batch} goes on; run the same command to pick it up")
        return None

    def _asked_anew(self, question: _Question) -> _Question:
        """Ask without what the server was found not to take."""
        again = self._question(question.index, question.request)
        again.reason = question.reason
        if again.lines.keys() == question.lines.keys():
            again.answers = question.answers
        return again

    def _read(self, question: _Question, name: str, row: dict[str, Any]) -> Response | None:
        """Read a line of a result; None if the request has no response yet."""
        body, error = self._parsed(row)
        if error is not None:
            return self._after_error(error, question, name)
        try:
            question.answers[name] = parse_body(body, self._model.dialect)
            if len(question.answers) < len(question.lines):
                return None
            first, *others = (question.answers[line] for line in question.lines)
            for other in others:
                first = first.joined(other)
            return response_of(first, question.request, self._model, self._asked_as)
        except InterruptedResponse as problem:
            question.reason = f"the server did not finish the response: {problem}"
        except (MalformedResponse, ValueError, RecursionError) as problem:
            question.reason = f"malformed response: {excerpt(str(problem))}"
        question.answers.pop(name, None)
        return None

    def _parsed(self, row: dict[str, Any]) -> tuple[Any, ServerError | None]:
        """The body of a line, or what is wrong with it."""
        row = clean_json(row, self._clean)
        response = row.get("response")
        response = response if isinstance(response, dict) else {}
        status, body = response.get("status_code", 200), response.get("body")
        if not isinstance(status, int) or status >= 400 or not isinstance(body, dict):
            shown = body or row.get("error") or row
            known = status if isinstance(status, int) and status >= 400 else 500
            return None, read_error(known, json.dumps(shown))
        return body, error_in(body)

    def _after_error(self, error: ServerError, question: _Question, name: str) -> Response | None:
        question.reason = error.reason
        if error.meaning in ("filtered", "cut", "too_long"):
            kinds: dict[str, Any] = {
                "filtered": "filtered",
                "cut": "length",
                "too_long": "too_long",
            }
            return failed(question.request, error.reason, kinds[error.meaning])
        learnt = learn(error, question.lines[name], self._can)
        if learnt:
            self._model.notes.append(f"{self._client.url} {learnt}")
        if learnt is None and error.meaning == "refused":
            return failed(question.request, error.reason)
        return None


def _ending(state: BatchState) -> str:
    if state.status == "done":
        return "has no line for it"
    return "failed" if state.status == "failed" else f"was {state.status}"


def _chunks(
    questions: Iterable[_Question], line: Callable[[str, dict[str, Any]], str]
) -> Iterator[list[_Question]]:
    """Divide requests into files of a size that servers take."""
    chunk, count, size = list[_Question](), 0, 0
    for question in questions:
        own = sum(len(line(*item).encode()) + 1 for item in question.lines.items())
        if chunk and (count + len(question.lines) > MAX_REQUESTS or size + own > MAX_BYTES):
            yield chunk
            chunk, count, size = [], 0, 0
        chunk.append(question)
        count, size = count + len(question.lines), size + own
    if chunk:
        yield chunk
