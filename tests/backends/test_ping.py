"""Servers before a run: the form of their names, and one request each."""

import socket

import pytest
from fault_server import FaultServer

from cai.backends.ping import form_problem, ping, urls_of


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("http://host:8000/v1#m", ""),
        ("https://one/v1, http://two:1/v1#org/model", ""),
        (
            "htp://host/v1#m",
            "htp://host/v1 does not begin with http:// or https:// (did you mean 'http'?)",
        ),
        ("http://one/v1,two:8000/v1#m", "two:8000/v1 does not begin with http:// or https://"),
        ("http://host/v1", "http://host/v1 names no model; write http://host:8000/v1#model"),
        ("http://host/v1#", "http://host/v1# names no model; write http://host:8000/v1#model"),
        ("http:///v1#m", "http:///v1 names no host; write http://host:8000/v1#model"),
        (
            "http://host:port/v1#m",
            "http://host:port/v1 names no host; write http://host:8000/v1#model",
        ),
        (
            "http://me:secret@host/v1#m",
            "a URL must hold no user, password or key; set OPENAI_API_KEY instead",
        ),
    ],
)
def test_the_form_of_a_servers_name(spec, expected):
    assert form_problem(spec) == expected


def url(server):
    return urls_of(server.spec)[0]


def test_a_ping_is_one_request_for_one_token(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-mine\n")
    with FaultServer(script=lambda number, fields: (200, {}, "{}")) as server:
        assert ping(url(server), "m") == ""
        assert ping(url(server), "m", "plain") == ""
    assert [request["max_tokens"] for request in server.requests] == [1, 1]
    assert "messages" in server.requests[0] and "prompt" in server.requests[1]
    assert server.headers[0]["Authorization"] == "Bearer a-key-of-mine"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "{}", "refuses the key (401); set OPENAI_API_KEY"),
        (404, "{}", "knows no model 'm', or has no such address (404)"),
        (402, "{}", "the quota is used up (402)"),
        (429, '{"error": {"code": "insufficient_quota"}}', "the quota is used up (429)"),
        (429, '{"error": "slow down"}', ""),
        (400, "x" * 100_000, ""),
        (503, "{}", ""),
        (200, "not JSON", ""),
    ],
)
def test_what_a_server_says_to_a_ping(status, body, expected):
    with FaultServer(script=lambda number, fields: (status, {}, body)) as server:
        said = ping(url(server), "m")
    assert said.removeprefix(url(server)).lstrip(": ") == expected and len(server.requests) == 1


def test_a_server_that_is_not_there_is_said_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert ping(gone, "m").startswith(f"{gone} does not answer: ") and ping(gone, "m").endswith(
        "; start the server and run again"
    )
