"""Names of servers, such as ``http://host:8000/v1#model``, and the API key for them."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from cai.cleaning import holds_secret, redact
from cai.errors import InputError, Problem, did_you_mean

SCHEMES = ("http", "https")
KEY_VARIABLE = "OPENAI_API_KEY"
_EXAMPLE = "write http://host:8000/v1#model"


def form_problem(spec: str) -> str:
    """Check the form of a server's name.

    Args:
        spec: One or several base URLs, separated by commas, then ``#`` and the model's name there.

    Returns:
        What is wrong with it; empty if nothing is.
    """
    urls, _, model = spec.partition("#")
    if holds_secret(urls):
        return f"a URL must not hold a user, password or key; set {KEY_VARIABLE} instead"
    for url in map(str.strip, urls.split(",")):
        scheme = url.partition("://")[0]
        if scheme not in SCHEMES:
            hint = did_you_mean(scheme, SCHEMES)
            return f"{redact(url)} does not begin with http:// or https://{hint}"
        if not _has_host(url):
            return f"{redact(url)} has no host; {_EXAMPLE}"
    return "" if model else f"{redact(spec)} has no model name; {_EXAMPLE}"


def urls_of(spec: str) -> list[str]:
    """Return the base URLs in the name of a server."""
    return [url.strip().rstrip("/") for url in spec.partition("#")[0].split(",")]


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False


def api_key() -> str:
    """Return the key for servers from ``OPENAI_API_KEY``, without surrounding white space.

    Raises:
        InputError: If it holds a character that no HTTP header can carry.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not re.fullmatch(r"[!-~]*", key):
        message = "holds a space, a line break or a character that is not ASCII; set it to the key"
        raise InputError([Problem(KEY_VARIABLE, message)])
    return key
