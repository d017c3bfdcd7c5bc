"""Learn from a server's refusal which parts of a request it does not take, and leave them out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cai.backends.capabilities import Capabilities
from cai.backends.server_errors import ServerError, find

_OPTIONAL = {
    "top_p": "is not sent",
    "temperature": "is not sent: answers are sampled at the server's own",
    "seed": "is not sent: a request that is sent again may get another response",
    "stop": "is not sent",
}
"""Fields that can be left out, and what follows from that."""
_SHORT = ("n", "stop")
"""Names that are also words; they count only in quotes."""
_LEAST_LIMIT = 16
"""Numbers below this in a message are no limits on the length of answers."""
_LEAST_LOGPROBS = 2
"""The log-probability of one token alone says nothing about the others."""


def learn(error: ServerError, fields: Mapping[str, Any], can: Capabilities) -> str | None:
    """Change what a server is asked for, after it refused a request.

    Args:
        error: The refusal.
        fields: The fields of the request that was refused.
        can: What the server can do; it is changed.

    Returns:
        What the user should know; empty if it was known before; None if the refusal names nothing
        that can be left out.
    """
    if can.whole_answers and find("only_streams", error.text):
        return _switch(can, "whole_answers", "")
    sent = _sent(fields)
    named = [name for name in sent if _names(error, name)]
    if "chat_template_kwargs" in named:
        return _switch(can, "thinking_switch", "")
    if {"temperature", "top_p"} <= set(named):
        named = ["top_p"]
    if "max_tokens" in named or "max_completion_tokens" in named:
        return _learn_limit(error, fields, can)
    if "logprobs" in named or "top_logprobs" in named:
        return _learn_logprobs(error, fields, can)
    if "n" in named:
        return _switch(can, "samples", "answers once per request: votes are asked for one by one")
    for name in named:
        if name in _OPTIONAL:
            return _leave_out(can, name)
    has_system = any(turn["role"] == "system" for turn in fields.get("messages", ()))
    if has_system and find("system_role", error.text):
        return _switch(
            can, "system_role", "takes no system message: it is put before the first turn"
        )
    return None


def first_named(error: ServerError, names: Iterable[str]) -> str:
    """Return the first field that a refusal names; empty if it names none.

    Args:
        error: The refusal.
        names: Fields of the request.
    """
    return next((name for name in names if _names(error, name)), "")


def adapted(fields: dict[str, Any], can: Capabilities) -> dict[str, Any]:
    """Return the fields of a request without what the server does not take.

    Args:
        fields: The fields, as :func:`~cai.backends.openai_protocol.request_fields` builds them.
        can: What the server can do.
    """
    result = {name: value for name, value in fields.items() if name not in can.refused}
    if can.token_limit and result.get("max_tokens", 0) > can.token_limit:
        result["max_tokens"] = can.token_limit
    if can.renames_max_tokens and "max_tokens" in result:
        result["max_completion_tokens"] = result.pop("max_tokens")
    if "top_logprobs" in result:
        result["top_logprobs"] = min(result["top_logprobs"], can.top_logprobs)
    elif result.get("logprobs") is not None:  # the completions endpoint has the number here
        result["logprobs"] = min(result["logprobs"], can.top_logprobs)
    if not can.samples:
        result.pop("n", None)
    if not can.whole_answers:
        extra = {"stream": True, "stream_options": {"include_usage": True}}
        result["extra_body"] = {**result.get("extra_body", {}), **extra}
    if not can.system_role and "messages" in result:
        result["messages"] = _without_system(result["messages"])
    return result


def _sent(fields: Mapping[str, Any]) -> list[str]:
    return [*fields, *fields.get("extra_body", {})]


def _names(error: ServerError, name: str) -> bool:
    if name in error.fields:
        return True
    if not find("refusal", error.text):
        return False
    if name in _SHORT:
        return re.search(rf"[\"'`]{name}[\"'`]", error.text) is not None
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", error.text) is not None


def _switch(can: Capabilities, name: str, note: str) -> str:
    is_new = getattr(can, name)
    setattr(can, name, False)
    return note if is_new else ""


def _leave_out(can: Capabilities, name: str) -> str:
    is_new = name not in can.refused
    can.leave_out(name)
    return f"does not take {name}: it {_OPTIONAL[name]}" if is_new else ""


def _learn_limit(error: ServerError, fields: Mapping[str, Any], can: Capabilities) -> str | None:
    """Learn the other name of ``max_tokens``, or how many tokens an answer may have."""
    other = "max_completion_tokens"
    if "max_tokens" in fields and other in error.text and find("renamed", error.text):
        is_new, can.renames_max_tokens = not can.renames_max_tokens, True
        return f"takes {other} in place of max_tokens" if is_new else ""
    limit = _limit_below(error, fields.get("max_tokens") or fields.get(other) or 0)
    if limit >= _LEAST_LIMIT:
        can.token_limit = min(limit, can.token_limit or limit)
        return f"gives at most {limit} tokens per answer: longer ones are cut there"
    return None


def _learn_logprobs(error: ServerError, fields: Mapping[str, Any], can: Capabilities) -> str:
    asked = fields.get("top_logprobs") or fields.get("logprobs") or 0
    limit = _limit_below(error, asked)
    if limit >= _LEAST_LOGPROBS and can.logprobs:
        is_new, can.top_logprobs = limit < can.top_logprobs, min(limit, can.top_logprobs)
        return f"gives the log-probabilities of {limit} tokens, not {asked}" if is_new else ""
    can.logprobs = False  # Capabilities.limitations says so
    return ""


def _limit_below(error: ServerError, asked: int) -> int:
    """The largest number in a message that is smaller than the one that was sent; 0 if none is."""
    numbers = map(int, re.findall(r"(?<![\w.-])\d{1,9}(?![\w-])(?!\.\d)", error.text))
    return max((n for n in numbers if n < asked and n != error.status), default=0)


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the system message in front of the first turn of the user."""
    system = [turn["content"] for turn in messages if turn["role"] == "system"]
    turns = [dict(turn) for turn in messages if turn["role"] != "system"]
    if system and turns and turns[0]["role"] == "user":
        turns[0]["content"] = "\n\n".join([*system, turns[0]["content"]])
    elif system:
        turns.insert(0, {"role": "user", "content": "\n\n".join(system)})
    return turns
