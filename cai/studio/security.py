"""Who may talk to the studio: the browser of its user, and no other page in it.

The server only listens on the loopback interface. That does not keep out web pages in the user's
browser: by DNS rebinding they reach it under a name of their own, and pages of other local servers
count as the same site. So every request is checked, before any page sees it.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"  # noqa: S105  (the name of a parameter)
READING = ("GET", "HEAD")
WRITING = ("POST",)
CONTENT_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms would come from the origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Sent with every response; a response that has set one of them keeps its own."""
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")


def is_loopback(host: str) -> bool:
    """Return whether a host, without a port, is this machine's loopback interface.

    Args:
        host: A name or an address, IPv6 with or without brackets.
    """
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return address == ipaddress.IPv6Address("::1")
    return address in _LOOPBACK


def is_own_host(header: str) -> bool:
    """Return whether a ``Host`` header names the loopback interface, with any port.

    The port may be that of the user's own tunnel, so it is not compared.
    """
    match = _HOST.fullmatch(header)
    if match is None or int(match[2] or 80) > 65_535:
        return False
    is_bare_ipv6 = ":" in match[1] and not match[1].startswith("[")
    return not is_bare_ipv6 and is_loopback(match[1])


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether an ``Origin`` header is that of the page that the ``Host`` header names."""
    try:
        parts = urlsplit(origin)
        is_plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        return False
    return is_plain and parts.scheme == "http" and parts.netloc.lower() == host.lower()


class Guard:
    """Checks every request, and sends the security headers with every response.

    Args:
        app: What is guarded.
        token: The secret that the user's first address carries.
        name: What tells this server's cookie from that of another one on the same machine, which
            browsers do not: its port.
    """

    def __init__(self, app: ASGIApp, token: str, name: str) -> None:
        self._app, self._token = app, token
        self.cookie = f"cai_studio_{name}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets, and none is accepted
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = self._check(scope)
        await (answer or self._app)(scope, receive, _with_headers(send))

    def _check(self, scope: Scope) -> Response | None:
        """Refuse a request, or let the user in; None if it may pass."""
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not is_own_host(hosts[0]):
            return _refuse("the host is not this machine")
        if scope["method"] not in (*READING, *WRITING):
            return _refuse("unknown method", 405)
        if reason := _foreign(scope, hosts[0]):
            return _refuse(reason)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == TOKEN]
        if given and scope["method"] == "GET":
            return self._let_in(scope, given, query)
        if not any(self._is_token(value) for value in self._cookies(scope)):
            return _refuse("open the address that cai studio has printed; it lets you in")
        return None

    def _let_in(self, scope: Scope, given: list[str], query: list[tuple[str, str]]) -> Response:
        """Turn the token of an address into a cookie, so that it leaves the address bar."""
        if len(given) != 1 or not self._is_token(given[0]):
            return _refuse("the token is not that of this server; it changes with every start")
        rest = urlencode([(name, value) for name, value in query if name != TOKEN])
        # a path that begins with two slashes would be the address of another machine
        path = "/" + quote(str(scope["path"]).lstrip("/\\"))
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, status_code=303)
        answer.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
        return answer

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self._token.encode())

    def _cookies(self, scope: Scope) -> Iterable[str]:
        for header in _values(scope, b"cookie"):
            try:
                cookies = SimpleCookie(header)
            except CookieError:
                continue
            if self.cookie in cookies:
                yield cookies[self.cookie].value


def _foreign(scope: Scope, host: str) -> str:
    """Say why a request comes from another page; empty if it does not.

    A write must prove that it comes from this page. A read may come from a bookmark or a link, but
    no other page may embed one.
    """
    origins, sites = _values(scope, b"origin"), _values(scope, b"sec-fetch-site")
    if any(not is_same_origin(origin, host) for origin in origins) or len(origins) > 1:
        return "the request comes from another origin"
    if scope["method"] in WRITING:
        is_proved = bool(origins) or sites == ["same-origin"]
        if not is_proved or any(site != "same-origin" for site in sites):
            return "the request comes from another page"
    elif any(site not in ("same-origin", "none") for site in sites):
        modes, targets = _values(scope, b"sec-fetch-mode"), _values(scope, b"sec-fetch-dest")
        if modes != ["navigate"] or targets != ["document"]:
            return "the request comes from another page"
    return ""


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _refuse(reason: str, status: int = 403) -> Response:
    return PlainTextResponse(f"refused: {reason}\n", status)


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            known = {name for name, _ in headers}
            headers += [
                (name.lower().encode(), value.encode())
                for name, value in HEADERS.items()
                if name.lower().encode() not in known
            ]
        await send(message)

    return sender
