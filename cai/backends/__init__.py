"""Backends: the reference model, a transformers model in this process, or any function that makes one."""

from __future__ import annotations

import os
from pathlib import Path

from cai.backends.protocol import (
    Backend,
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    OptionLogprobs,
)
from cai.errors import ArgumentError, InputError, Problem
from cai.files import StrPath
from cai.functions import function_of

__all__ = ["Backend", "Choice", "Choose", "Complete", "Completion", "open_backend"]


def open_backend(spec: StrPath, chat_format: str = "", enable_thinking: bool = False) -> Backend:
    """Open a backend by its name.

    ``reference`` is the embedded model; ``http://host:8000/v1#model`` is a server that speaks the OpenAI protocol;
    ``package.module:function`` is called without arguments and returns a backend; anything else is a model folder or a hub
    id, opened in this process. ``chat_format`` is the chat format (see ``ChatFormat``); with ``enable_thinking`` a model that can think
    aloud before it answers may.

    Raises:
        InputError: if there is no such function.
        ArgumentError: if ``spec`` is empty or not a name.
    """
    if not isinstance(spec, str | os.PathLike) or not os.fspath(spec):
        raise ArgumentError("spec", f"must be the name, folder or address of a model, not {spec!r}")
    spec = os.fspath(spec)
    if spec.startswith(("http://", "https://")):
        return _server(spec, chat_format, enable_thinking)
    module_name, colon, _ = spec.partition(":")
    if colon and "/" not in module_name and not Path(spec).exists():
        backend: Backend = function_of(spec)()
        return backend
    from cai.backends.local import LocalBackend  # transformers and torch are heavy

    return LocalBackend(spec, chat_format, enable_thinking)


def _server(spec: str, chat_format: str, enable_thinking: bool) -> Backend:
    try:
        from cai.backends.server import ServerBackend
    except ImportError:
        raise InputError(
            [Problem(spec, 'asking a server needs the openai package: pip install "cai[server]"')]
        ) from None
    return ServerBackend(spec, chat_format, enable_thinking)
