"""Settings of model servers, and what is known of the usual ones (``providers.yaml``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import yaml
from pydantic import field_validator

from cai.cleaning import holds_secret, is_secret
from cai.config.base import Count, Name, NonNegative, Positive, Section

Reasoning = Literal["off", "on", "minimal", "low", "medium", "high"]
_REFERENCE = re.compile(r"\$\{(\w+)\}")
_SECRET_HEADER = re.compile(r"authorization|cookie|key|token|secret", re.IGNORECASE)
_OWN_FIELDS = ("model", "messages", "prompt", "stream")
"""Fields of a request that ``extra_body`` must not replace."""


class Server(Section):
    """A model server, or several of one model.

    ``models.judge: NAME`` or ``models.judge: NAME#MODEL`` asks it. A server with the name of a
    known provider (``providers.yaml`` in the package) has that provider's settings as defaults.
    """

    url: Name | None = None
    """Base URL, several of them with commas, or the name of a known provider; null: the provider of
    the server's own name."""
    model: Name | None = None
    """Name of the model there; null: it follows the server's name after ``#``."""
    key_env: Name | None = None
    """Environment variable that holds the API key; null: the provider's own variable, if it is set,
    otherwise ``OPENAI_API_KEY``."""
    headers: Mapping[str, str] = {}
    """Headers of every request; ``${NAME}`` stands for an environment variable, and a secret must
    be written that way."""
    extra_body: Mapping[str, Any] = {}
    """Fields that are added to every request, such as ``{provider: {order: [x]}}``."""
    concurrency: Count | None = None
    """Maximum number of requests in flight to one base URL; null: the provider's own, otherwise
    64."""
    requests_per_minute: Positive | None = None
    """Maximum number of requests per minute to one base URL; null: no limit."""
    tokens_per_minute: Positive | None = None
    """Maximum number of tokens per minute at one base URL, read and generated; null: no limit."""
    timeout: Positive | None = None
    """Seconds that one answer may take; null: 300."""
    max_tokens: Count | None = None
    """Maximum tokens per answer, reasoning included, in place of that of the stages; null: that of
    the stages."""
    temperature: NonNegative | None = None
    """Sampling temperature in place of that of the stages; null: that of the stages."""
    reasoning: Reasoning | None = None
    """Whether the model reasons before it answers, or how much; null: as
    ``models.enable_thinking`` has it."""
    price: tuple[NonNegative, NonNegative] | None = None
    """Prices of a million prompt tokens and of a million generated tokens, unless ``--price`` is
    given; null: none."""
    batch: bool = False
    """Send the requests of the feedback stages as files through the server's batch API, which takes
    up to a day and costs less; PPO asks at once."""
    reasoning_off: Mapping[str, Any] | None = None
    """Fields that keep this server's model from reasoning; null:
    ``{chat_template_kwargs: {enable_thinking: false}}``."""

    @field_validator("url")
    @classmethod
    def _no_key_in_url(cls, url: str | None) -> str | None:
        if url and holds_secret(url):
            raise ValueError("contains a user, a password or a key; name its variable in key_env")
        return url

    @field_validator("key_env")
    @classmethod
    def _variable(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ValueError("must be the name of an environment variable, not the key itself")
        return name

    @field_validator("headers")
    @classmethod
    def _no_secret_header(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ValueError(f"{name!r} is not the name of a header")
            literal = _REFERENCE.sub("", value).removeprefix("Bearer").strip()
            if literal and (_SECRET_HEADER.search(name) or is_secret(value)):
                message = "holds a secret; set an environment variable and write ${ITS_NAME}"
                raise ValueError(f"{name} {message}")
        return headers

    @field_validator("extra_body")
    @classmethod
    def _additions(cls, extra_body: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in _OWN_FIELDS:
            if name in extra_body:
                raise ValueError(f"must not set {name}")
        if is_secret(str(extra_body)):
            raise ValueError("holds a secret; keys are read from the environment")
        return extra_body

    @property
    def answer_settings(self) -> dict[str, Any]:
        """The settings that change answers, without those that are not set."""
        values = {
            "model": self.model,
            "extra_body": self.extra_body,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "reasoning": self.reasoning,
        }
        return {name: value for name, value in values.items() if value not in (None, {})}

    def header_values(self) -> dict[str, str]:
        """The headers with the values of the environment in place of ``${NAME}``.

        Raises:
            KeyError: With the name of a variable that is not set.
        """
        return {
            name: _REFERENCE.sub(lambda match: os.environ[match[1]].strip(), value)
            for name, value in self.headers.items()
        }


class Address(NamedTuple):
    """One base URL, and the settings of its server.

    Attributes:
        url: The base URL.
        server: The settings.
        may_use_default_key: Whether the key may be ``OPENAI_API_KEY`` if ``key_env`` is not set.
        name: The server's name in the run file; empty if it has none.
    """

    url: str
    server: Server
    may_use_default_key: bool = True
    name: str = ""


Servers = Mapping[str, Server]
"""The servers of a run file, by name."""


@cache
def providers() -> dict[str, Server]:
    """The providers and local servers that are known by name."""
    text = (Path(__file__).parent / "providers.yaml").read_text(encoding="utf-8")
    return {name: Server.model_validate(fields) for name, fields in yaml.safe_load(text).items()}


def is_named_server(name: str, servers: Servers | None = None) -> bool:
    """Tell whether a model's name begins with the name of a server.

    Args:
        name: ``NAME`` or ``NAME#MODEL``; several names are separated by commas.
        servers: The servers of the run file.
    """
    names, hash_sign, _ = name.partition("#")
    parts = [part.strip() for part in names.split(",")]
    own = servers or {}
    if all(part in own for part in parts):
        return True
    return bool(hash_sign) and all(part in own or part in providers() for part in parts)


def server_settings(name: str, servers: Servers | None = None) -> list[Server]:
    """The settings of the servers that a model's name names; empty if it names none.

    Args:
        name: The name of a model.
        servers: The servers of the run file.
    """
    parts = [part.strip() for part in name.partition("#")[0].split(",")]
    return [servers[part] for part in parts if servers and part in servers]


def is_batched(name: str, servers: Servers | None = None) -> bool:
    """Tell whether a model is on a server whose batch API is used.

    Args:
        name: The name of a model.
        servers: The servers of the run file.
    """
    return any(server.batch for server in server_settings(name, servers))


def without_batches(servers: Servers) -> Servers:
    """Return servers that are asked at once.

    Args:
        servers: The servers of the run file.
    """
    return {name: own.model_copy(update={"batch": False}) for name, own in servers.items()}


def addresses(urls: str, servers: Servers | None = None) -> Iterator[Address]:
    """Resolve base URLs and names of servers.

    Args:
        urls: Base URLs, names of servers, or both, separated by commas.
        servers: The servers of the run file.

    Yields:
        Each base URL with its settings; those of a known provider are the defaults.

    Raises:
        KeyError: With a name that is neither a server's nor a provider's.
    """
    known = providers()
    for part in map(str.strip, urls.split(",")):
        own = (servers or {}).get(part)
        if own is not None:
            for url, provider, *_ in addresses(own.url or part):
                yield Address(url, _merged(provider, own), own.key_env is None, part)
        elif part in known:
            yield Address(known[part].url or "", known[part])
        elif "://" in part:
            yield Address(part.rstrip("/"), _provider_of(part))
        else:
            raise KeyError(part)


def _provider_of(url: str) -> Server:
    """The settings of the provider at a URL; defaults if no provider is known there."""
    place = _place(url)
    for provider in providers().values():
        if place is not None and _place(provider.url or "") == place:
            return provider
    return Server()


def _place(url: str) -> tuple[str, int | None] | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # the port is not a number
        return None
    return host.replace("localhost", "127.0.0.1"), port


def _merged(provider: Server, own: Server) -> Server:
    """The settings of a server, with those of its provider as defaults."""
    values = {name: getattr(provider, name) for name in provider.model_fields_set}
    values |= {name: getattr(own, name) for name in own.model_fields_set}
    return Server.model_validate(values)
