"""Backends: models that respond to requests.

A backend is the embedded reference model, a transformers model in this process, a server, or any
Python object with the methods of :class:`Backend`. A response cache in front of it makes sure that
no request is sent twice.

Example:
    >>> import cai
    >>> from cai.backends import GenerateRequest, LoglikelihoodRequest, open_backend
    >>> conversation = (cai.Message(role="user", content="How do I wash the dog?"),)
    >>> generate = GenerateRequest(conversation, seed=0, max_tokens=64)
    >>> score = LoglikelihoodRequest(conversation, options=("To", "No"))
    >>> with cai.ResponseCache(":memory:") as cache:
    ...     model = cache.cached_model(open_backend("reference"))
    ...     completion, option_logprobs = model([generate, score])
    >>> completion.finish_reason, len(option_logprobs.logprobs)
    ('stop', 2)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cai.backends.protocol import (
    REASONING_TOKENS,
    Backend,
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    OptionLogprobs,
)
from cai.config.servers import Servers
from cai.errors import ArgumentError, InputError, Problem
from cai.files import StrPath
from cai.functions import function_of
from cai.models.names import is_function, is_server

__all__ = [
    "Backend",
    "Completion",
    "GenerateRequest",
    "LoglikelihoodRequest",
    "OptionLogprobs",
    "open_backend",
]
_MEMBERS = ("fingerprint", "render", "respond", "stop")


def open_backend(
    spec: StrPath,
    chat_format: str = "",
    *,
    enable_thinking: bool = False,
    servers: Servers | None = None,
    reasoning_tokens: int = REASONING_TOKENS,
) -> Backend:
    """Open a backend by its name.

    Args:
        spec: ``reference`` is the embedded model. ``http://host:8000/v1#model`` is a model on a
            server that speaks the OpenAI protocol, and so is ``provider#model``.
            ``package.module:function`` is a function that takes no arguments and returns a backend.
            Anything else is a model folder or a hub id.
        chat_format: ``chat`` (the model's own template), ``transcript`` ("Human: / Assistant:", for
            base models) or ``plain`` (the bare texts); empty for ``chat`` if the model has a
            template, else ``transcript``. A function ignores it.
        enable_thinking: Whether a reasoning model may reason before it answers.
        servers: Servers with settings of their own that ``spec`` may name, such as those of a run
            file.
        reasoning_tokens: Tokens that it may use for that, on top of those of the answer.

    Returns:
        The backend. The model itself is loaded when it is first needed.

    Raises:
        ArgumentError: If ``spec`` is empty or not a name.
        InputError: If there is no such function or model, or a package is missing.
    """
    if not isinstance(spec, str | os.PathLike) or not os.fspath(spec):
        raise ArgumentError("spec", f"must be the name, folder or URL of a model, not {spec!r}")
    spec = os.fspath(spec)
    options: dict[str, Any] = {
        "enable_thinking": enable_thinking,
        "reasoning_tokens": reasoning_tokens,
    }
    if is_server(spec, servers):
        return _open_server(spec, chat_format, servers, options)
    if is_function(spec) and not Path(spec).exists():
        return _call_factory(spec)
    from cai.backends.local import LocalBackend  # imports torch and transformers

    return LocalBackend(spec, chat_format, **options)


def _call_factory(spec: str) -> Backend:
    backend: Backend = function_of(spec)()
    missing = [name for name in _MEMBERS if not hasattr(backend, name)]
    if missing:
        kind = type(backend).__name__
        message = f"returned {kind}, which is not a backend: it has no {', '.join(missing)}"
        raise InputError([Problem(spec, message)])
    return backend


def _open_server(
    spec: str, chat_format: str, servers: Servers | None, options: dict[str, Any]
) -> Backend:
    try:
        from cai.backends.server import ServerBackend
    except ImportError:
        raise InputError(
            [Problem(spec, 'needs the openai package: pip install "cai[server]"')]
        ) from None
    return ServerBackend(spec, chat_format, servers=servers, **options)
