"""The body of a request to one server, and what its answer means, however it is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cai.backends import openai_protocol
from cai.backends.capabilities import Capabilities
from cai.backends.openai_schema import Body
from cai.backends.protocol import GenerateRequest, Request, Response
from cai.backends.refusals import adapted
from cai.backends.served_model import ServedModel
from cai.cleaning import HIDDEN, SECRET_LENGTH, clean
from cai.config.servers import Server


def with_own_settings(request: Request, server: Server) -> Request:
    """Return a request with the server's own temperature and length of answers.

    Args:
        request: The request.
        server: The settings of the server.
    """
    if not isinstance(request, GenerateRequest):
        return request
    temperature = request.temperature if server.temperature is None else server.temperature
    max_tokens = server.max_tokens or request.max_tokens
    return replace(request, temperature=temperature, max_tokens=max_tokens)


def thinks(server: Server, model: ServedModel) -> bool:
    """Return whether a model may reason before it answers.

    Args:
        server: The settings of its server.
        model: The model.
    """
    wanted = server.reasoning
    return model.enable_thinking if wanted is None else wanted != "off"


def fields_of(
    request: Request, server: Server, model: ServedModel, can: Capabilities
) -> dict[str, Any]:
    """Return the fields of a request, without what the server does not take.

    Args:
        request: The request, see :func:`with_own_settings`.
        server: The settings of the server.
        model: The model.
        can: What the server can do.
    """
    switches = can.thinking_switch and not thinks(server, model)
    fields = openai_protocol.request_fields(
        request,
        model.name,
        model.dialect,
        logprobs=can.logprobs,
        disable_thinking=switches and server.reasoning_off is None,
        continuation=can.continuation or "none",
        choosing=can.choosing or "none",
        reasoning_tokens=model.tokens_to_reason(can),
    )
    extra: dict[str, Any] = fields.pop("extra_body", {})
    if switches and model.dialect == "chat":
        extra |= server.reasoning_off or {}
    if server.reasoning not in (None, "off", "on"):
        extra["reasoning_effort"] = server.reasoning
    if extra or server.extra_body:
        fields["extra_body"] = {**extra, **server.extra_body}
    if server.max_tokens is not None and isinstance(request, GenerateRequest):
        fields["max_tokens"] = request.max_tokens  # reasoning included
    return adapted(fields, can)


def response_of(body: Body, request: Request, model: ServedModel, can: Capabilities) -> Response:
    """Return the response that the body of an answer is.

    Args:
        body: The body.
        request: The request.
        model: The model.
        can: What the server could do when it was asked.

    Raises:
        MalformedResponse: If something is missing.
        InterruptedResponse: If the server did not finish the answer.
    """
    reasoning_tokens = model.tokens_to_reason(can)
    if isinstance(request, GenerateRequest):
        return openai_protocol.completion(body, request, reasoning_tokens=reasoning_tokens)
    return openai_protocol.option_logprobs(
        body, request, logprobs=can.logprobs, reasoning_tokens=reasoning_tokens
    )


def without_key(text: str, key: str) -> str:
    """Return a server's text without lone surrogates, and without the key, which some repeat.

    Args:
        text: The text.
        key: The key.
    """
    text = clean(text)
    return text.replace(key, HIDDEN) if len(key) >= SECRET_LENGTH else text
