"""Attacks from other pages and machines: each is refused, and the user gets in."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cai.studio.security import Guard, is_own_host, is_same_origin

TOKEN = "t" * 43
HOST = "127.0.0.1:8765"


@pytest.fixture
def client():
    """A guarded page that reads and writes, and a browser that has been let in."""
    page = Route("/{path:path}", lambda _: PlainTextResponse("secret"), methods=["GET", "POST"])
    guarded = Guard(Starlette(routes=[page]), TOKEN, "8765")
    with TestClient(guarded, base_url=f"http://{HOST}", follow_redirects=False) as browser:
        browser.cookies.set("cai_studio_8765", TOKEN)
        yield browser


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8765",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.4.5.6:8765",
        "[::1]:8765",
        "[::1]",
    ],
)
def test_names_of_this_machine(host, client):
    assert is_own_host(host)
    assert client.get("/", headers={"host": host}).text == "secret"


REBINDING = [
    "",
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8765",
    "evil.example#127.0.0.1",
    "127.0.0.1@evil.example",
    "evil@localhost",
    "localhost:8765, evil.example",
    "localhost.",
    "localhost:",
    "localhost:99999",
    "localhost:8765:1",
    "0.0.0.0:8765",
    "[::]:8765",
    "::1",
    "[::1%25lo]",
    "[::ffff:127.0.0.1]",
    "[::1",
    "128.0.0.1",
    "10.0.0.1:8765",
    "2130706433",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "localhost/",
    " localhost",
    "ⅼocalhost".encode().decode("latin-1"),
]


@pytest.mark.parametrize("host", REBINDING)
def test_rebinding_is_refused(host, client):
    assert not is_own_host(host)
    assert client.get("/", headers={"host": host.encode("latin-1")}).status_code == 403


def scope_of(headers, path="/", method="GET"):
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": headers,
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    "hosts", [[], [b"localhost", b"localhost"], [b"localhost", b"evil.example"]]
)
async def test_a_missing_or_repeated_host_is_refused(hosts):
    sent = []

    async def send(message):
        sent.append(message)

    cookie = (b"cookie", f"cai_studio_1={TOKEN}".encode())
    headers = [*((b"host", host) for host in hosts), cookie]
    await Guard(None, TOKEN, "1")(scope_of(headers), None, send)
    assert sent[0]["status"] == 403


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_web_sockets_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    await Guard(None, TOKEN, "1")({"type": "websocket", "headers": []}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


SAME = f"http://{HOST}"
FOREIGN_WRITES = [
    {},
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": f"https://{HOST}"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:8765"},
    {"origin": f"http://{HOST}.evil.example"},
    {"origin": f"http://{HOST}/"},
    {"origin": f"http://x@{HOST}"},
    {"origin": SAME, "sec-fetch-site": "cross-site"},
    {"origin": SAME, "sec-fetch-site": "same-site"},
    {"origin": SAME, "sec-fetch-site": "none"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://[::1", "sec-fetch-site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN_WRITES, ids=str)
def test_writes_of_other_pages_are_refused(headers, client):
    assert client.post("/", headers=headers).status_code == 403


@pytest.mark.parametrize("headers", [{"origin": SAME}, {"sec-fetch-site": "same-origin"}])
def test_own_writes_pass(headers, client):
    assert client.post("/", headers=headers).text == "secret"
    assert is_same_origin("http://LOCALHOST:1", "localhost:1")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "bogus"])
@pytest.mark.parametrize(
    "how", [("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe")]
)
def test_no_other_page_embeds_this_one(site, how, client):
    headers = {"sec-fetch-site": site, "sec-fetch-mode": how[0], "sec-fetch-dest": how[1]}
    assert client.get("/", headers=headers).status_code == 403


def test_a_link_of_another_page_may_lead_here(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers={**headers, "sec-fetch-dest": "document"}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(method, client):
    assert client.request(method, "/").status_code == 405


@pytest.mark.parametrize(
    "cookie",
    ["", "wrong", TOKEN[:-1], TOKEN + "t", f'"{TOKEN}'],
)
def test_without_the_cookie_nothing_is_shown(cookie, client):
    client.cookies.clear()
    headers = {"cookie": f"cai_studio_8765={cookie}"} if cookie else {}
    answer = client.get("/", headers=headers)
    assert answer.status_code == 403
    assert "secret" not in answer.text


def test_the_cookie_of_another_server_does_not_count(client):
    client.cookies.clear()
    headers = {"cookie": f"cai_studio_9999={TOKEN}"}
    assert client.get("/", headers=headers).status_code == 403


def test_the_token_becomes_a_strict_cookie_and_leaves_the_address(client):
    client.cookies.clear()
    answer = client.get(f"/run/a/?q=x+y&token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/run/a/?q=x+y")
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/"))
    assert client.get("/").text == "secret"


@pytest.mark.parametrize("query", ["token=x", "token=", f"token={TOKEN}&token={TOKEN}"])
def test_a_wrong_token_does_not_let_in(query, client):
    client.cookies.clear()
    answer = client.get(f"/?{query}")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///evil.example"])
def test_the_token_redirects_to_no_other_machine(path, client):
    answer = client.get(f"{SAME}{path}?token={TOKEN}")
    assert not answer.headers.get("location", "/").startswith(("//", "/\\", "http"))


def test_the_token_of_a_write_is_no_cookie(client):
    client.cookies.clear()
    assert client.post(f"/?token={TOKEN}", headers={"origin": SAME}).status_code == 403


@pytest.mark.parametrize("status", [200, 403])
def test_every_response_has_the_headers(status, client):
    headers = {} if status == 200 else {"host": "evil.example"}
    answer = client.get("/", headers=headers)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
