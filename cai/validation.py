"""What pydantic finds wrong with a value, in plain English."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cai.errors import did_you_mean

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_long": ("max_length", "at most {} characters long"),
}


def explain(detail: Mapping[str, Any], name: str) -> str:
    """One error of a ``ValidationError`` as a sentence about ``name``, the value's dotted path.

    Args:
        detail: An entry of ``ValidationError.errors()``.
        name: What to call the value; empty for the whole file.
    """
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    subject = name or "the file"
    if kind == "missing":
        return f"{subject} is missing"
    if kind == "value_error":
        text = str(detail["msg"]).removeprefix("Value error, ")
        return f"{name}{':' if isinstance(value, Mapping) else ''} {text}".lstrip(": ")
    if kind == "string_too_short":
        return f"{subject} is empty"
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", context["expected"])
        known = ", ".join(filter(None, options))
        return f"{subject} must be one of {known}, not {shown(value)}{_near(value, options)}"
    if kind in _BOUNDS:
        key, bound = _BOUNDS[kind]
        return f"{subject} must be {bound.format(_number(context[key]))}, not {shown(value)}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{subject}: {detail['msg']}"
    if value is None:
        return f"{subject} is empty; it must be {expected}"
    return f"{subject} must be {expected}, not {shown(value)}"


def shown(value: object) -> str:
    """A value as its author would name it: lists and mappings by kind, the rest as in YAML."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _near(value: object, options: Sequence[str]) -> str:
    return did_you_mean(value, options) if isinstance(value, str) else ""


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
