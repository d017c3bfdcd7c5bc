"""API keys are sent to servers, and shown or stored nowhere."""

import json

import pytest

pytest.importorskip("openai")

from fault_server import PROBES, FaultServer, after_probes
from request_helpers import generate_requests, respond

from cai.backends import open_backend
from cai.backends.response_cache import ResponseCache
from cai.cli.app import app
from cai.config import RunConfig
from cai.errors import InputError, LimitReached
from cai.feedback.sample import sample
from cai.records import Prompt

KEY = "sk-canary-0123456789abcdefghij"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


def test_key_is_removed_before_a_message_is_cut(key):
    for before in range(280, 305, 3):
        with FaultServer(after_probes(400, {}, "x" * before + key)) as server:
            (response,) = respond(server.backend(), generate_requests(1))
        assert response.reason.startswith("400 xxx")
        assert key[:10] not in response.reason


def test_key_in_a_response_is_hidden(key, tmp_path):
    message = {"content": f"your key is {key}", "reasoning": key}
    body = {"model": f"m {key}", "choices": [{"message": message, "finish_reason": "stop"}]}
    with FaultServer(after_probes(200, {}, body)) as server:
        backend = server.backend()
        with ResponseCache(tmp_path / "m") as cache:
            (record,) = sample([Prompt.of("x")], cache.cached_model(backend))
    assert (record.response, record.reasoning) == ("your key is ***", "***")
    assert backend.notes
    assert key not in repr(backend.notes)
    assert key.encode() not in (tmp_path / "m").read_bytes()


def test_key_in_the_first_error_is_hidden(key):
    body = {"error": f"{'x' * 290} {key}"}
    with (
        FaultServer(lambda number, fields: (400, {}, body)) as server,
        pytest.raises(LimitReached, match="the first request failed: 400") as caught,
    ):
        respond(server.backend(), generate_requests(1))
    assert key[:10] not in str(caught.value)


def test_key_may_end_in_a_line_break(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    with FaultServer() as server:
        assert respond(server.backend(), generate_requests(1))[0].text == "1 words"
    lowered = [{k.lower(): v for k, v in headers.items()} for headers in server.headers]
    assert {headers["authorization"] for headers in lowered} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("value", [f"{KEY}\nX: y", f"{KEY} {KEY}", f"{KEY}é"])
def test_key_that_no_header_can_carry_is_refused(monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with (
        FaultServer() as server,
        pytest.raises(InputError, match="OPENAI_API_KEY: holds") as caught,
    ):
        respond(server.backend(), generate_requests(1))
    assert "canary" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:9/v1?api_key={KEY}#m",
        f"http://h/v1,http://u:{KEY}@127.0.0.1:9/v1#m",
        f"http://user:{KEY}@localhost:8000/v1#m",
    ],
)
def test_key_in_a_url_is_refused(url):
    with pytest.raises(InputError, match="set OPENAI_API_KEY") as caught:
        open_backend(url)
    assert "canary" not in str(caught.value)
    settings = {
        "constitution": "x",
        "models": {"critic": url},
        "prompts": {"red_team": "a", "benign": "b"},
    }
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        RunConfig.model_validate(settings)
    settings["models"]["critic"] = "https://h/v1?api-version=2024-02-01#m@2"
    assert RunConfig.model_validate(settings)


def test_key_is_in_no_file_and_no_output_of_a_run(key, tmp_path, root, monkeypatch, capfd):
    def script(number, fields):
        if number > PROBES + 3:
            return 401, {}, {"error": f"the key {key} is not known"}
        return (500, {}, f"oops {key}") if number == PROBES + 2 else None

    rows = [json.dumps({"prompt": f"How do I wash the dog {i}?"}) for i in range(2)]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    with FaultServer(script) as server:
        settings = {
            "constitution": str(root / "constitution/reference.yaml"),
            "models": {"critic": server.spec},
            "prompts": {"red_team": "p.jsonl", "benign": "p.jsonl"},
            "sample": {"max_tokens": 32},
            "max_failed": 1.0,
        }
        (tmp_path / "run.yaml").write_text(json.dumps(settings))
        monkeypatch.chdir(tmp_path)
        command = ["run", "run.yaml", "--until", "revise"]
        with pytest.raises(InputError, match="refuses the key") as caught:
            app(command, standalone_mode=False)
    shown = capfd.readouterr()
    assert key not in f"{shown.out}{shown.err}{caught.value}"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "responses.sqlite" for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]
