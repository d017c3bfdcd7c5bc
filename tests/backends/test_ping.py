"""Servers before a run: the form of their names, and one request to each."""

import socket

import pytest
from fault_server import FaultServer

from cai.backends.ping import ping
from cai.backends.server_address import form_problem, urls_of


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
        ("http://host/v1", "http://host/v1 has no model name; write http://host:8000/v1#model"),
        ("http://host/v1#", "http://host/v1# has no model name; write http://host:8000/v1#model"),
        ("http:///v1#m", "http:///v1 has no host; write http://host:8000/v1#model"),
        (
            "http://host:port/v1#m",
            "http://host:port/v1 has no host; write http://host:8000/v1#model",
        ),
        (
            "http://me:secret@host/v1#m",
            "a URL must not hold a user, password or key; set OPENAI_API_KEY instead",
        ),
    ],
)
def test_form_of_a_server_name(spec, expected):
    assert form_problem(spec) == expected


def test_urls_of_a_server_name():
    assert urls_of("http://a/v1/, http://b:1/v1#m") == ["http://a/v1", "http://b:1/v1"]


def test_ping_is_one_request_for_one_token(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-mine\n")
    with FaultServer(script=lambda number, fields: (200, {}, "{}")) as server:
        assert ping(server.url, "m") == ""
        assert ping(server.url, "m", "plain") == ""
    assert [request["max_tokens"] for request in server.requests] == [1, 1]
    assert "messages" in server.requests[0]
    assert "prompt" in server.requests[1]
    assert server.headers[0]["Authorization"] == "Bearer a-key-of-mine"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, "{}", "refuses the key (401); set OPENAI_API_KEY"),
        (404, "{}", "does not know the model 'm', or has no such path (404)"),
        (402, "{}", "the quota is used up (402)"),
        (429, '{"error": {"code": "insufficient_quota"}}', "the quota is used up (429)"),
        (429, '{"error": "slow down"}', ""),
        (400, "x" * 100_000, ""),
        (503, "{}", ""),
        (200, "not JSON", ""),
    ],
)
def test_ping_interprets_the_status(status, body, expected):
    with FaultServer(script=lambda number, fields: (status, {}, body)) as server:
        problem = ping(server.url, "m")
    assert problem.removeprefix(server.url).lstrip(": ") == expected
    assert len(server.requests) == 1


def test_ping_without_a_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    problem = ping(gone, "m")
    assert problem.startswith(f"{gone} does not answer: ")
    assert problem.endswith("; start the server and run again")
