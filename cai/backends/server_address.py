"""Names of servers, such as ``http://host:8000/v1#model``, and the API key for them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from cai.cleaning import add_secret, holds_secret, redact
from cai.config.servers import Address, Servers, addresses, providers, server_settings
from cai.errors import InputError, Problem, did_you_mean

SCHEMES = ("http", "https")
KEY_VARIABLE = "OPENAI_API_KEY"
_EXAMPLE = "write http://host:8000/v1#model"


def form_problem(spec: str, servers: Servers | None = None) -> str:
    """Check the form of a server's name.

    Args:
        spec: Base URLs and names of servers, separated by commas, then ``#`` and the model's name
            there.
        servers: The servers of the run file.

    Returns:
        What is wrong with it; empty if nothing is.
    """
    urls = spec.partition("#")[0]
    if holds_secret(urls):
        return f"a URL must not hold a user, password or key; set {KEY_VARIABLE} instead"
    for url in map(str.strip, urls.split(",")):
        scheme = url.partition("://")[0]
        if url in (servers or {}) or url in providers():
            continue
        if scheme not in SCHEMES:
            hint = did_you_mean(scheme, SCHEMES)
            return f"{redact(url)} does not begin with http:// or https://{hint}"
        if not _has_host(url):
            return f"{redact(url)} has no host; {_EXAMPLE}"
    if not model_of(spec, servers):
        return f"{redact(spec)} has no model name; {_EXAMPLE}"
    found = addresses_of(spec, servers)
    if len(found) > 1 and any(address.server.batch for address in found):
        return f"{redact(spec)}: a batch goes to one server; name one base URL, or remove batch"
    return ""


def addresses_of(spec: str, servers: Servers | None = None) -> list[Address]:
    """Return the base URLs in the name of a server, each with its settings.

    Args:
        spec: Base URLs and names of servers, separated by commas; what follows ``#`` is left out.
        servers: The servers of the run file.

    Raises:
        InputError: If something in it is neither a URL nor a known name.
    """
    try:
        return list(addresses(spec.partition("#")[0], servers))
    except KeyError:
        raise InputError(form_problem(spec, servers)) from None


def urls_of(spec: str, servers: Servers | None = None) -> list[str]:
    """Return the base URLs in the name of a server.

    Args:
        spec: The name.
        servers: The servers of the run file.
    """
    return [address.url for address in addresses_of(spec, servers)]


def model_of(spec: str, servers: Servers | None = None) -> str:
    """Return the name of the model in the name of a server, or in the settings of the server.

    Args:
        spec: The name of a server.
        servers: The servers of the run file.
    """
    _, hash_sign, model = spec.partition("#")
    names = {server.model for server in server_settings(spec, servers) if server.model}
    return model if hash_sign or len(names) != 1 else names.pop()


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False


@dataclass(frozen=True)
class Access:
    """How a base URL is asked.

    Attributes:
        base_url: The URL without its query.
        query: The query.
        key: The API key; empty if there is none.
        key_variable: The environment variable of the key.
        headers: Headers of every request.
    """

    base_url: str
    query: dict[str, str]
    key: str
    key_variable: str
    headers: dict[str, str] = field(repr=False)


def access_to(address: Address) -> Access:
    """Read the key and the headers for a base URL from the environment.

    Args:
        address: The base URL, and its settings.

    Raises:
        InputError: If a variable is not set, or no header can carry its value.
    """
    variable = key_variable(address)
    parts = urlsplit(address.url)
    base_url = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    query = dict(parse_qsl(parts.query))
    try:
        headers = address.server.header_values()
    except KeyError as error:
        text = f"is not set; a header of {address.url} needs it"
        raise InputError([Problem(error.args[0], text)]) from None
    key = _header_value(variable, os.environ.get(variable, ""))
    if not key and address.server.key_env == variable and not address.may_use_default_key:
        raise InputError([Problem(variable, f"is not set; {address.url} needs it as its key")])
    for name, value in headers.items():
        _header_value(name, value, spaces=True)
        if value != address.server.headers[name]:
            add_secret(value.removeprefix("Bearer "))
    add_secret(key)
    return Access(base_url, query, key, variable, headers)


def key_variable(address: Address) -> str:
    """Return the environment variable that holds the key for a base URL.

    Args:
        address: The base URL, and its settings.
    """
    own = address.server.key_env
    is_set = own is not None and bool(os.environ.get(own, "").strip())
    return own if own and (is_set or not address.may_use_default_key) else KEY_VARIABLE


def _header_value(name: str, value: str, *, spaces: bool = False) -> str:
    """Return a value without surrounding white space.

    Raises:
        InputError: If it holds a character that no HTTP header can carry.
    """
    value = value.strip()
    if not re.fullmatch(r"[ -~]*" if spaces else r"[!-~]*", value):
        message = "holds a space, a line break or a character that is not ASCII; set it to the key"
        raise InputError([Problem(name, message)])
    return value
