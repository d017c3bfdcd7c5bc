"""Text from outside: made valid Unicode, freed of API keys, and only then cut to a length."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
EXCERPT = 300
"""Characters of a server's message that are kept."""
SECRET_LENGTH = 8
"""A shorter key is a placeholder such as "EMPTY"; replacing it would only garble messages."""
_SECRET_VARIABLE = re.compile(r"(?:API_?KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_SECRET_SHAPE = re.compile(
    r"\bsk-[\w*-]{8,}|\b(?:hf|gsk|xai|nvapi)[-_][A-Za-z0-9]{20,}|(?<=Bearer )[^\s\"',;]{8,}"
)
_SECRET_IN_QUERY = re.compile(
    r"([?&;][\w.-]*(?:key|token|secret|passw|pwd|sig|auth|credential)[\w.-]*=)[^\s\"'&;#]+",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"//[^/#?]*@")


def clean(text: str) -> str:
    """The text as valid Unicode: split surrogate pairs are joined, lone surrogates become U+FFFD.

    JSON escapes and Python functions can hold lone surrogates; UTF-8 files and tokenizers cannot.
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean_json(value: Any, change: Callable[[str], str] = clean) -> Any:
    """A parsed JSON value with every string in it cleaned, names of fields included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [clean_json(item, change) for item in value]
    if isinstance(value, dict):
        return {change(name): clean_json(item, change) for name, item in value.items()}
    return value


def redact(text: str) -> str:
    """The text without API keys: those in the environment, whole or cut, and what looks like one."""
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and len(value.strip()) >= SECRET_LENGTH:
            for key in (quote(value.strip(), safe=""), value.strip()):
                text = _without(text.replace(key, HIDDEN), key)
    text = _SECRET_IN_QUERY.sub(rf"\g<1>{HIDDEN}", text)
    return _SECRET_SHAPE.sub(HIDDEN, text)


def _without(text: str, key: str) -> str:
    """The text without a key, or the beginning of it where a server cut the key."""
    kept = []
    while (at := text.find(key[:SECRET_LENGTH])) >= 0:
        kept += [text[:at], HIDDEN]
        text = text[at:]
        same = (a == b for a, b in zip(key, text, strict=False))
        text = text[sum(takewhile(bool, same)) :]
    return "".join([*kept, text])


def excerpt(text: str, limit: int = EXCERPT) -> str:
    """A server's or library's message as one short printable line without keys."""
    # keys go before anything is cut, or half a key could stay
    text = redact(clean(text))[: 4 * limit]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def holds_secret(url: str) -> bool:
    """Whether a URL (or several, with commas between them) names a user, a password or a key."""
    return bool(_PASSWORD_IN_URL.search(url) or _SECRET_IN_QUERY.search(url))
