"""Hold a server's model to one of several answers, in the ways that servers have for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

Choosing = Literal["none", "structured_outputs", "guided_choice", "json_schema"]
"""How a server is told the answers that are allowed.

- ``none``: it cannot be; they are asked for in words alone.
- ``structured_outputs``: the field of vLLM.
- ``guided_choice``: the same in older versions of it.
- ``json_schema``: the ``response_format`` of OpenAI and of most hosted APIs.
"""
JSON_TOKENS = 16
"""Tokens that the JSON around an answer may take."""


def choice_fields(choices: Sequence[str], way: Choosing) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that tell a server which answers are allowed.

    Args:
        choices: The answers.
        way: How the server is told.

    Returns:
        Fields of the protocol, and fields of the server's own.
    """
    if way == "structured_outputs":
        return {}, {"structured_outputs": {"choice": list(choices)}}
    if way == "guided_choice":
        return {}, {"guided_choice": list(choices)}
    if way == "none":
        return {}, {}
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(choices)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}, {}


def chosen(text: str, choices: Sequence[str]) -> str:
    """Return the answer that a model chose; the text as it is if it has no such form.

    Args:
        text: What the model wrote.
        choices: The answers that were allowed.
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    answer = value.get("answer") if isinstance(value, dict) else None
    return next((choice for choice in choices if choice == answer), text)
