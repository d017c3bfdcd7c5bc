"""Answers that a server sends as a stream of events, although it was not asked to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cai.models.reasoning import split_reasoning

_PREFIXES = ("data:", "event:", "id:", "retry:", ":")
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal", "text")


def decode_text(body: bytes, charset: str | None) -> str:
    """Decode the text of a body: UTF-8 or another form of Unicode, or else as its header says.

    Args:
        body: What was received.
        charset: The encoding that the header names.

    Raises:
        ValueError: If it cannot be decoded.
    """
    try:
        return body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError:
        try:
            return body.decode(charset or "utf-8")
        except (LookupError, TypeError):
            raise ValueError("its text is in an unknown encoding") from None


def decode_body(text: str) -> Any:
    """Decode the body of an answer; the events of a stream become one answer.

    Args:
        text: JSON, or server-sent events.

    Raises:
        ValueError: If it is neither.
    """
    if not text.lstrip().startswith(_PREFIXES):
        return json.loads(text)
    # a text may hold other line ends than these as they are
    lines = [line[5:].strip() for line in re.split(r"[\r\n]+", text) if line.startswith("data:")]
    events = [json.loads(line) for line in lines if line and line != "[DONE]"]
    error = next((e for e in events if not isinstance(e, dict) or e.get("error")), None)
    try:
        return error or _joined(events)
    except (AttributeError, TypeError) as fault:
        raise ValueError(f"its events are no parts of an answer: {fault}") from None


def text_so_far(received: bytes) -> str:
    """The text of an answer whose stream has not ended, without its reasoning.

    It is empty if the model still reasons, or if nothing of a stream came.

    Args:
        received: What came so far.
    """
    whole = received.decode("utf-8", "replace").rpartition("\n")[0]
    try:
        choice = decode_body(whole)["choices"][0]
    except (ValueError, LookupError, TypeError):
        return ""
    text = choice.get("text") or choice["message"].get("content")
    return split_reasoning(text).answer.lstrip() if isinstance(text, str) else ""


def _joined(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put the parts of an answer together.

    A stream that was cut has neither a finish reason nor a number of tokens, as an answer that was
    cut.
    """
    body: dict[str, Any] = {}
    choices: dict[int, list[Mapping[str, Any]]] = {}
    for event in events:
        body |= {name: value for name, value in event.items() if value is not None}
        for choice in event.get("choices") or ():
            choices.setdefault(choice.get("index", 0), []).append(choice)
    return body | {"choices": [_choice(parts) for _, parts in sorted(choices.items())]}


def _choice(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    choice: dict[str, Any] = {}
    for part in parts:
        choice |= {name: value for name, value in part.items() if value is not None}
    messages = [part.get("delta") or part.get("message") or {} for part in parts]
    logprobs = [part["logprobs"] for part in parts if part.get("logprobs")]
    positions = {
        name: [position for own in logprobs for position in own.get(name) or ()]
        for name in ("content", "top_logprobs")
    }
    joined = {"message": _texts(messages), "logprobs": positions if logprobs else None}
    return choice | joined | _texts(parts)


def _texts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The texts of some parts, each joined; lists of parts of a text become one list."""
    joined: dict[str, Any] = {}
    for name in _TEXTS:
        values = [part[name] for part in parts if part.get(name) is not None]
        if values and all(isinstance(value, str) for value in values):
            joined[name] = "".join(values)
        elif values:
            lists = [value if isinstance(value, list) else [value] for value in values]
            joined[name] = [item for items in lists for item in items]
    return joined
