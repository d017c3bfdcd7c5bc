"""The OpenAI-compatible endpoint as a backend: vLLM, SGLang, ``transformers serve``, hosted APIs; one server or several.

Named in a run file as ``http://host:8000/v1#model``, several base URLs with commas between them. The key is read from
``OPENAI_API_KEY`` and never written or shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import openai

from cai.backends import openai_protocol
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest, Request, Response, failed
from cai.backends.rate_limit import AdaptiveLimiter, backoff, retry_after
from cai.backends.transport import CappedTransport, Worker
from cai.cleaning import HIDDEN, SECRET_LENGTH, clean, clean_json, excerpt, holds_secret, redact
from cai.errors import CaiError, InputError, LimitReached, Problem
from cai.keys import digest
from cai.records import Message

ATTEMPTS = 6
PROBE_ATTEMPTS = 3
"""A server that is not there is said soon; one that is there and falters later has more time."""
PATIENCE = 1200.0
"""Seconds that one call may wait on a server that says it is busy."""
DEADLINE = 300.0
"""Seconds one attempt may take, however slowly its bytes drip."""
BYTE_CAP = 4_000_000
NO_CONNECTION = "no connection"
DEAD_IN_A_ROW = 40
"""Calls that fail one after the other, with none between them that works, before the run stops."""
RETRIED = {408, 409, 425, 500, 502, 503, 504, 520, 522, 524, 529}


@dataclass
class Capabilities:
    """What a server was found to honour."""

    model: str = ""
    logprobs: bool = True
    seed: bool = True
    quiet: bool = True  # takes the option that keeps a model from thinking aloud

    def lacks(self) -> list[str]:
        return [
            *(
                []
                if self.logprobs
                else [
                    f"gives no log-probabilities: verdicts are read from {openai_protocol.VOTE_SAMPLES} samples each"
                ]
            ),
            *(
                []
                if self.seed
                else ["does not honour seeds: what is asked again may be answered otherwise"]
            ),
        ]


@dataclass
class ServerSettings:
    """Limits of a server backend, in seconds, bytes and calls."""

    attempts: int = ATTEMPTS
    deadline: float = DEADLINE
    patience: float = PATIENCE
    byte_cap: int = BYTE_CAP
    first_wait: float = 0.5
    concurrency: int = 64


class ServerBackend:
    """Answers calls by asking servers that speak the OpenAI protocol, many at a time.

    A failure of one call is an answer with the status ``failed`` and the reason; what no call can get past (a wrong key, an
    unknown model, a quota that is used up, a server that is gone) stops the run, and what was answered is kept.
    """

    def __init__(
        self,
        spec: str,
        chat_format: str = "",
        enable_thinking: bool = False,
        settings: ServerSettings | None = None,
    ) -> None:
        urls, _, model = spec.partition("#")
        if holds_secret(urls):
            raise InputError(
                [
                    Problem(
                        "base URL", "holds a user, a password or a key; set OPENAI_API_KEY instead"
                    )
                ]
            )
        if not model:
            raise InputError(
                [Problem(redact(spec), "names no model; write http://host:8000/v1#model")]
            )
        self.urls = [url.strip().rstrip("/") for url in urls.split(",")]
        self.model, self.settings, self.enable_thinking = (
            model,
            settings or ServerSettings(),
            enable_thinking,
        )
        self.dialect: openai_protocol.Dialect = (
            "transcript"
            if chat_format == "transcript"
            else "plain"
            if chat_format == "plain"
            else "chat"
        )
        # the model, not the address: a server that moved remembers what it answered
        self.fingerprint = f"server:{model}{'' if self.dialect == 'chat' else ':' + chat_format}{':enable_thinking' if enable_thinking else ''}"
        self.capabilities: Capabilities | None = None
        self.notes: list[str] = []  # what a user should know about the servers

    def render(self, request: Request) -> str:
        return openai_protocol.render(request, self.dialect)

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """Yield answers as they come in; the calls run in a thread of their own until the last or until this is closed.

        Ctrl-C, or a limit that is thrown in, ends it after the answers that are on their way: they will have to be paid.
        """
        if not requests:
            return
        done: queue.Queue[tuple[int, Response] | None] = queue.Queue()
        switch = _WorkQueue(len(requests))
        worker = Worker(self._work(requests, switch, done.put), lambda: done.put(None))
        worker.start()
        try:
            try:
                yield from iter(done.get, None)
            except (KeyboardInterrupt, LimitReached):
                switch.off()
                yield from iter(done.get, None)
                raise
            if worker.error:
                raise worker.error
        finally:
            worker.stop()

    async def _work(self, requests: Sequence[Request], switch: _WorkQueue, put: Any) -> None:
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=self.settings.concurrency
        )
        transport = CappedTransport(self.settings.byte_cap, limits=limits)
        timeout = httpx.Timeout(self.settings.deadline, connect=10.0)
        async with httpx.AsyncClient(
            transport=transport, timeout=timeout, headers={"Accept-Encoding": "identity"}
        ) as http:
            endpoints = [_Endpoint(url, http, self, switch) for url in self.urls]
            if self.capabilities is None:
                self.capabilities = await endpoints[0].probe()

            async def one(endpoint: _Endpoint) -> None:
                while (i := switch.next()) is not None:
                    try:
                        answer = await endpoint.answer(requests[i])
                        switch.seen(answer, endpoint.url)
                    except (
                        CaiError
                    ) as error:  # no call can get past it, but those on their way may end
                        switch.off(error)
                        return
                    if answer.finish_reason != "failed" or not switch.is_off:
                        put((i, answer))

            # as many workers as may ever be inside; the gate of each line says how many are
            async with asyncio.TaskGroup() as group:
                for endpoint in endpoints:
                    for _ in range(min(self.settings.concurrency, len(requests))):
                        group.create_task(one(endpoint))
            if switch.error:
                raise switch.error


class _WorkQueue:
    """Hands out the calls until it is off, which it turns when one after the other fails."""

    def __init__(self, count: int) -> None:
        self._next, self._count, self._failed = 0, count, 0
        self.is_off, self.error = False, None  # type: bool, CaiError | None

    def next(self) -> int | None:
        if self.is_off or self._next >= self._count:
            return None
        self._next += 1
        return self._next - 1

    def off(self, error: CaiError | None = None) -> None:
        """Hand out no more calls, and ask none again."""
        self.is_off, self.error = True, self.error or error

    def seen(self, answer: Response, url: str) -> None:
        self._failed = self._failed + 1 if answer.finish_reason == "failed" else 0
        if self._failed >= DEAD_IN_A_ROW:
            raise LimitReached(
                f"{url}: {self._failed} calls in a row failed, the last one with: {answer.reason}; run again to go on"
            )


class _Endpoint:
    """One base URL: its client and its gate."""

    def __init__(
        self, url: str, http: httpx.AsyncClient, backend: ServerBackend, switch: _WorkQueue
    ) -> None:
        self.url, self.backend, self.settings, self.switch = url, backend, backend.settings, switch
        self.client = openai.AsyncOpenAI(
            base_url=url,
            api_key=api_key() or "none",
            max_retries=0,
            http_client=http,
            timeout=self.settings.deadline,
        )
        self.gate = AdaptiveLimiter(most=self.settings.concurrency)

    async def probe(self) -> Capabilities:
        """Ask twice for the same two words: does the server know the model, give log-probabilities, honour the seed?"""
        talk = (Message(role="user", content="Write two words."),)
        words, capabilities = (
            GenerateRequest(talk, seed=1234, temperature=1.0, max_tokens=12),
            Capabilities(quiet=not self.backend.enable_thinking),
        )
        said = [await self._try(words, capabilities, PROBE_ATTEMPTS)]
        if (
            said[0].finish_reason == "failed"
            and capabilities.quiet
            and not said[0].reason.startswith(NO_CONNECTION)
        ):
            capabilities.quiet = False
            said = [await self._try(words, capabilities)]
        if said[0].finish_reason == "failed":
            if said[0].reason.startswith(NO_CONNECTION):
                raise LimitReached(
                    f"{self.url}: does not answer: {said[0].reason}; start the server and run again"
                )
            raise LimitReached(
                f"{self.url}: the first call failed: {said[0].reason}; mend that and run again"
            )
        said.append(await self._try(words, capabilities))
        capabilities.seed = said[0] == said[1]
        weighed = await self._try(LoglikelihoodRequest(talk, ("yes", "no")), capabilities)
        capabilities.logprobs = weighed.finish_reason != "failed"
        self.backend.notes += [f"{self.url} {lack}" for lack in capabilities.lacks()]
        return capabilities

    async def answer(self, request: Request) -> Response:
        assert self.backend.capabilities is not None
        return await self._try(request, self.backend.capabilities)

    async def _try(
        self, request: Request, capabilities: Capabilities, attempts: int = 0
    ) -> Response:
        """Ask until there is an answer, a reason why there will be none, or no attempt left."""
        try_prompt, waited, note, attempts = 0, 0.0, "", attempts or self.settings.attempts
        while try_prompt < attempts and waited < self.settings.patience and not self.switch.is_off:
            wait: float | None = None
            try:
                async with self.gate.enter(), asyncio.timeout(self.settings.deadline):
                    answer = await self._ask(request, capabilities)
                self.gate.on_success()
                return answer
            except openai.APIStatusError as error:
                note = _shown(error)
                wait = retry_after(error.response.headers)
                if error.status_code in (429, 503, 529) and not _spent(error):
                    self.gate.on_overload()
                    wait = backoff(try_prompt, self.settings.first_wait) if wait is None else wait
                    waited += max(wait, 0.01)
                    try_prompt += error.status_code != 429  # being told to wait is no failure
                elif error.status_code in RETRIED:
                    try_prompt += 1
                else:
                    return self._final(error, request, note)
            except (openai.APIConnectionError, TimeoutError, httpx.HTTPError) as error:
                note, try_prompt = _reason(error), try_prompt + 1
            except openai_protocol.BrokenOff as error:
                note, try_prompt = f"the server did not finish the answer: {error}", try_prompt + 1
            except (openai_protocol.MalformedResponse, ValueError, RecursionError) as error:
                note, try_prompt = f"malformed answer: {excerpt(str(error))}", try_prompt + 1
            if try_prompt < attempts:
                await asyncio.sleep(
                    backoff(try_prompt, self.settings.first_wait) if wait is None else wait
                )
        return failed(request, note)

    def _final(self, error: openai.APIStatusError, request: Request, note: str) -> Response:
        """What an error means that no second attempt mends."""
        if error.status_code in (401, 403):
            raise InputError(
                [Problem(self.url, f"refuses the key ({error.status_code}); set OPENAI_API_KEY")]
            )
        if error.status_code == 404:
            raise InputError(
                [
                    Problem(
                        self.url,
                        f"knows no model {self.backend.model!r}, or has no such address (404)",
                    )
                ]
            )
        if error.status_code == 402 or _spent(error):
            raise LimitReached(
                f"{self.url}: the quota is used up; what was answered is kept, run again to go on"
            )
        text = error.response.text.lower()
        if (
            error.status_code == 413
            or "context length" in text
            or "too long" in text
            or "maximum context" in text
        ):
            return failed(request, note, "too_long")
        if "content_filter" in text or "content policy" in text:
            return failed(request, note, "filtered")
        return failed(request, note)

    async def _ask(self, request: Request, capabilities: Capabilities) -> Response:
        dialect = self.backend.dialect
        fields = openai_protocol.request(
            request,
            self.backend.model,
            dialect,
            logprobs=capabilities.logprobs,
            quiet=capabilities.quiet,
        )
        # the same call has the same key, so that a server which keeps count bills a retry once
        fields["extra_headers"] = {
            "Idempotency-Key": digest(
                [self.backend.model, self.backend.render(request), repr(request)], 32
            )
        }
        api: Any = self.client.chat.completions if dialect == "chat" else self.client.completions
        raw = await api.with_raw_response.create(**fields)
        content = raw.http_response.content.decode("utf-8-sig", "surrogatepass")
        body = openai_protocol.parse(clean_json(json.loads(content), _clean), dialect)
        model = excerpt(body.model, 100)
        if model and not capabilities.model:
            capabilities.model = model
        elif model and model != capabilities.model:
            self.backend.notes.append(
                f"{self.url} answers as {model!r} now, before as {capabilities.model!r}"
            )
            capabilities.model = model
        return (
            openai_protocol.completion(body, request)
            if isinstance(request, GenerateRequest)
            else openai_protocol.option_logprobs(body, request, logprobs=capabilities.logprobs)
        )


def _spent(error: openai.APIStatusError) -> bool:
    return error.code in ("insufficient_quota", "billing_hard_limit_reached")


def api_key() -> str:
    """The key for servers, from ``OPENAI_API_KEY``; a line break at its end, which files of keys leave, is taken off.

    Raises:
        InputError: if it holds something that no HTTP header can carry.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        raise InputError(
            [
                Problem(
                    "OPENAI_API_KEY",
                    "holds a blank, a line break or a character that is not ASCII; set it to the key alone",
                )
            ]
        )
    return key


def _clean(text: str) -> str:
    """A string of a server's answer without lone surrogates, and without the key, which some servers repeat."""
    key = api_key()
    return clean(text).replace(key, HIDDEN) if len(key) >= SECRET_LENGTH else clean(text)


def _shown(error: openai.APIStatusError) -> str:
    """The status and the server's own words, short and without the key."""
    return f"{error.status_code} {excerpt(error.response.text)}"


def _reason(error: Exception) -> str:
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return "no answer in time"
    return f"{NO_CONNECTION}: {excerpt(str(error.__cause__ or error))}"
