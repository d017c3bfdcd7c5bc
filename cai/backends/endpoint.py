"""One base URL of an OpenAI-compatible server: send a request until it has a final response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import openai

from cai.backends import openai_protocol
from cai.backends.capabilities import Capabilities
from cai.backends.identity import models_of
from cai.backends.openai_protocol import InterruptedResponse
from cai.backends.openai_schema import Dialect, MalformedResponse, parse_body
from cai.backends.protocol import GenerateRequest, Request, Response, failed
from cai.backends.rate_limit import AdaptiveLimiter, backoff, retry_after
from cai.backends.server_address import KEY_VARIABLE, api_key
from cai.cleaning import HIDDEN, SECRET_LENGTH, clean, clean_json, excerpt
from cai.errors import InputError, LimitReached, Problem
from cai.keys import digest

LIST_TIMEOUT = 10.0
"""Seconds to wait for the list of models."""
OVERLOADED = {429, 503, 529}
"""Statuses of a server that is busy: it gets fewer requests at once."""
TRANSIENT = {408, 409, 425, 500, 502, 504, 520, 522, 524}
"""Statuses of failures that another attempt may not meet."""
KEY_REFUSED = {401, 403}
QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached"}
"""Codes in the body of an error that mean what status 402 means."""
TOO_LONG = ("context length", "too long", "maximum context")
"""Words of servers about a prompt that does not fit."""
FILTERED = ("content_filter", "content policy")
"""Words of servers about a prompt that they do not accept."""


@dataclass(frozen=True)
class ServerSettings:
    """Limits of a server backend.

    Attributes:
        attempts: Maximum number of attempts for one request.
        deadline: Seconds that one attempt may take, however slowly its bytes arrive.
        patience: Seconds that one request may wait in total for a busy server.
        max_bytes: Maximum size of a response.
        first_wait: Base of the waits between attempts, in seconds; they double each time.
        concurrency: Maximum number of requests in flight to one server.
    """

    attempts: int = 6
    deadline: float = 300.0
    patience: float = 1200.0
    max_bytes: int = 4_000_000
    first_wait: float = 0.5
    concurrency: int = 64


@dataclass
class ServedModel:
    """A model on a server, and what is known about it.

    Attributes:
        name: Its name on the server.
        dialect: How conversations are sent.
        enable_thinking: Whether a reasoning model may reason before it answers.
        capabilities: What the server can do; None until it was probed.
        reported_name: The name in the server's latest response.
        notes: What the user should know, such as missing capabilities.
    """

    name: str
    dialect: Dialect
    enable_thinking: bool
    capabilities: Capabilities | None = None
    reported_name: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Retry:
    """An attempt failed, and another one may succeed.

    Attributes:
        reason: What went wrong.
        is_failure: Whether it counts against ``ServerSettings.attempts``.
        is_overload: Whether the server is busy.
        is_unreachable: Whether there was no connection to the server.
        wait: Seconds that the server asks to wait; None if it does not.
    """

    reason: str
    is_failure: bool = True
    is_overload: bool = False
    is_unreachable: bool = False
    wait: float | None = None


class Endpoint:
    """One base URL: its client and its rate limit.

    Args:
        url: The base URL.
        http: The HTTP client.
        model: The model there.
        settings: Limits.
        is_stopped: Returns whether to give up instead of trying again.

    Attributes:
        url: The base URL.
        is_reachable: Whether there was a connection at the latest attempt.
        probes: Keeps the responses to requests that are sent to find out what the server can do;
            None while others are sent.
    """

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        model: ServedModel,
        settings: ServerSettings,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.url = url
        self.is_reachable = True
        self.probes: list[Response] | None = None
        self._model = model
        self._settings = settings
        self._is_stopped = is_stopped
        self._limiter = AdaptiveLimiter(maximum=settings.concurrency)
        self._http = http
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=api_key() or "none",
            max_retries=0,
            http_client=http,
            timeout=settings.deadline,
        )

    @property
    def model_name(self) -> str:
        """Name of the model on the server."""
        return self._model.name

    @property
    def reported_name(self) -> str:
        """Name of the model in the server's latest response."""
        return self._model.reported_name

    async def list_models(self) -> list[dict[str, Any]]:
        """Return what the server reports of its models; nothing if it has no such list."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT):
                response = await self._http.get(
                    f"{self.url}/models", headers={"Authorization": f"Bearer {api_key() or 'none'}"}
                )
        except (httpx.HTTPError, TimeoutError):
            return []
        return models_of(response.content) if response.is_success else []

    async def send(
        self, request: Request, capabilities: Capabilities, attempts: int | None = None
    ) -> Response:
        """Send a request until there is a final response or no attempt is left.

        Args:
            request: The request.
            capabilities: What the server can do.
            attempts: Maximum number of attempts; that of the settings by default.

        Returns:
            The response; one with ``finish_reason="failed"`` if all attempts failed.

        Raises:
            InputError: If the server refuses the key or does not know the model.
            LimitReached: If the quota is used up.
        """
        response = await self._send(request, capabilities, attempts or self._settings.attempts)
        if self.probes is not None:
            self.probes.append(response)
        return response

    async def _send(
        self, request: Request, capabilities: Capabilities, max_failures: int
    ) -> Response:
        failures, waited, reason = 0, 0.0, ""
        while (
            failures < max_failures and waited < self._settings.patience and not self._is_stopped()
        ):
            result = await self._attempt(request, capabilities)
            if not isinstance(result, _Retry):
                return result
            reason = result.reason
            failures += result.is_failure
            if failures < max_failures:
                wait = result.wait
                if wait is None:
                    wait = backoff(failures, self._settings.first_wait)
                if result.is_overload:
                    waited += max(wait, 0.01)
                await asyncio.sleep(wait)
        return failed(request, reason)

    async def _attempt(self, request: Request, capabilities: Capabilities) -> Response | _Retry:
        """Send a request once; the cases in which it has no response are listed here."""
        self.is_reachable = True
        try:
            async with self._limiter.enter(), asyncio.timeout(self._settings.deadline):
                response = await self._post(request, capabilities)
        except openai.APIStatusError as error:
            return self._after_status(error, request)
        except (openai.APITimeoutError, TimeoutError):
            return _Retry("no response in time")
        except (openai.APIConnectionError, httpx.HTTPError) as error:
            return self._after_disconnect(error.__cause__ or error)
        except InterruptedResponse as error:
            return _Retry(f"the server did not finish the response: {error}")
        except (MalformedResponse, ValueError, RecursionError) as error:
            return _Retry(f"malformed response: {excerpt(str(error))}")
        self._limiter.on_success()
        return response

    def _after_disconnect(self, cause: BaseException) -> _Retry:
        if isinstance(cause, httpx.DecodingError):
            return _Retry(f"unusable response: {excerpt(str(cause))}")
        self.is_reachable = False
        return _Retry(f"no connection: {excerpt(str(cause))}")

    def _after_status(self, error: openai.APIStatusError, request: Request) -> Response | _Retry:
        """Interpret an error that the server sent.

        ==========================  ================================================
        402, or quota used up       stop the run
        401, 403: key refused       stop the run
        404: model or path unknown  stop the run
        429, 503, 529: busy         try again with fewer requests at once
        408, 500, 502 ...           try again
        413, or prompt too long     this request has no response: ``too_long``
        content filter              this request has no response: ``filtered``
        any other                   this request has no response: ``failed``
        ==========================  ================================================
        """
        status, text = error.status_code, error.response.text
        reason = f"{status} {excerpt(text)}"
        if status == 402 or error.code in QUOTA_CODES:
            raise LimitReached(
                f"{self.url}: the quota is used up; all responses are kept, run again to continue"
            )
        if status in KEY_REFUSED:
            raise InputError([Problem(self.url, f"refuses the key ({status}); set {KEY_VARIABLE}")])
        if status == 404:
            message = f"does not know the model {self._model.name!r}, or has no such path (404)"
            raise InputError([Problem(self.url, message)])
        wait = retry_after(error.response.headers)
        if status in OVERLOADED:
            self._limiter.on_overload()
            # a request to slow down is not a failure
            return _Retry(reason, is_failure=status != 429, is_overload=True, wait=wait)
        if status in TRANSIENT:
            return _Retry(reason, wait=wait)
        if status == 413 or any(words in text.lower() for words in TOO_LONG):
            return failed(request, reason, "too_long")
        if any(words in text.lower() for words in FILTERED):
            return failed(request, reason, "filtered")
        return failed(request, reason)

    async def _post(self, request: Request, capabilities: Capabilities) -> Response:
        model = self._model
        fields = openai_protocol.request_fields(
            request,
            model.name,
            model.dialect,
            logprobs=capabilities.logprobs,
            disable_thinking=capabilities.thinking_switch,
            continuation=capabilities.continuation or "none",
        )
        # equal requests have equal keys, so that a server that keeps track bills a retry once
        identity = [model.name, openai_protocol.render(request, model.dialect), repr(request)]
        fields["extra_headers"] = {"Idempotency-Key": digest(identity, 32)}
        is_chat = model.dialect == "chat"
        api: Any = self._client.chat.completions if is_chat else self._client.completions
        raw = await api.with_raw_response.create(**fields)
        content = raw.http_response.content.decode("utf-8-sig", "surrogatepass")
        body = parse_body(clean_json(json.loads(content), _clean), model.dialect)
        self._compare_model(excerpt(body.model, 100))
        if isinstance(request, GenerateRequest):
            return openai_protocol.completion(body, request)
        return openai_protocol.option_logprobs(body, request, logprobs=capabilities.logprobs)

    def _compare_model(self, name: str) -> None:
        """Note when the server begins to answer with another model."""
        before = self._model.reported_name
        if not name or name == before:
            return
        if before:
            self._model.notes.append(f"{self.url} now answers as {name!r}, before as {before!r}")
        self._model.reported_name = name


def _clean(text: str) -> str:
    """Remove lone surrogates from a server's text, and the key, which some servers repeat."""
    key = api_key()
    text = clean(text)
    return text.replace(key, HIDDEN) if len(key) >= SECRET_LENGTH else text
