"""Servers before a run: is the name well formed, and does the server answer to the model and the key?"""

from __future__ import annotations

from urllib.parse import urlsplit

from cai.cleaning import excerpt, holds_secret, redact
from cai.errors import did_you_mean

SCHEMES = ("http", "https")
SECONDS = 10.0
BYTES = 4_096
"""Of an error's body that are looked at."""
_FORM = "write http://host:8000/v1#model"


def form_problem(spec: str) -> str:
    """What is wrong with the form of ``http://host:8000/v1#model``; empty where nothing is."""
    urls, _, model = spec.partition("#")
    if holds_secret(urls):
        return "a URL must hold no user, password or key; set OPENAI_API_KEY instead"
    for url in (url.strip() for url in urls.split(",")):
        scheme = url.partition("://")[0]
        if scheme not in SCHEMES:
            return f"{redact(url)} does not begin with http:// or https://{did_you_mean(scheme, SCHEMES)}"
        if not _has_host(url):
            return f"{redact(url)} names no host; {_FORM}"
    return "" if model else f"{redact(spec)} names no model; {_FORM}"


def urls_of(spec: str) -> list[str]:
    """The base URLs in the name of a server."""
    return [url.strip().rstrip("/") for url in spec.partition("#")[0].split(",")]


def ping(url: str, model: str, chat_format: str = "") -> str:
    """Ask a server for one token, without a second attempt.

    Args:
        url: The base URL, such as ``http://host:8000/v1``.
        model: The name of the model there.
        style: The chat format of the policy (``models.chat_format``) where the server is the policy.

    Returns:
        Why a run would fail on this server: it is not there, refuses the key or does not know the
        model. Empty for every other answer, also for "busy" and for a refused request: a run has
        its own ways to deal with these.
    """
    import httpx2 as httpx

    from cai.backends.server import api_key

    plain = chat_format in ("plain", "transcript")
    talk = {"prompt": "Hi"} if plain else {"messages": [{"role": "user", "content": "Hi"}]}
    try:
        with httpx.stream(
            "POST",
            f"{url}/{'completions' if plain else 'chat/completions'}",
            json={"model": model, "max_tokens": 1, **talk},
            headers={"Authorization": f"Bearer {api_key() or 'none'}"},
            timeout=SECONDS,
        ) as answer:
            text = next(answer.iter_text(BYTES), "") if answer.is_error else ""
            return _meaning(answer.status_code, text, url, model)
    except httpx.ReadTimeout:  # there, and slow: it may be loading the model
        return ""
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{url} does not answer: {excerpt(str(error))}; start the server and run again"


def _meaning(status: int, text: str, url: str, model: str) -> str:
    if status in (401, 403):
        return f"{url} refuses the key ({status}); set OPENAI_API_KEY"
    if status == 404:
        return f"{url} knows no model {model!r}, or has no such address (404)"
    if status == 402 or "insufficient_quota" in text:
        return f"{url}: the quota is used up ({status})"
    return ""


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number
        return False
