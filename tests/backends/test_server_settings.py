"""Settings of servers in a run file, and the providers that are known by name."""

import json

import pytest
import yaml

pytest.importorskip("openai")

from fault_server import FAST, PROBES, FaultServer
from request_helpers import generate_requests, respond

from cai.backends import open_backend
from cai.backends.server import ServerBackend, ServerSettings
from cai.backends.server_address import access_to, addresses_of, form_problem, model_of
from cai.config import RunConfig, Server, load_config
from cai.config.servers import providers
from cai.errors import InputError
from cai.models.names import is_server
from cai.pipeline.preflight import check_run
from cai.pipeline.prices import price_of

KEY = "my-own-secret-0123456789"


def backend_of(spec, **servers):
    settings = ServerSettings(**FAST)
    return ServerBackend(spec, settings=settings, servers=servers)


def config_of(**settings):
    prompts = {"red_team": "r", "benign": "b"}
    return RunConfig.model_validate({"constitution": "x", "prompts": prompts} | settings)


def test_a_named_server_is_asked_as_its_settings_say(monkeypatch):
    monkeypatch.setenv("TEAM_LLM", KEY)
    monkeypatch.setenv("TEAM", "blue-team-of-forty")
    with FaultServer() as server:
        own = Server(
            url=server.url,
            model="m",
            key_env="TEAM_LLM",
            headers={"X-Team": "${TEAM}", "X-Title": "cai"},
            extra_body={"provider": {"order": ["x"]}},
            temperature=0.5,
            max_tokens=2000,
            reasoning="low",
        )
        backend = backend_of("judge", judge=own)
        respond(backend, generate_requests(1))
    fields, headers = server.requests[-1], {k.lower(): v for k, v in server.headers[-1].items()}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["x-team"], headers["x-title"]) == ("blue-team-of-forty", "cai")
    assert (fields["temperature"], fields["max_tokens"]) == (0.5, 2000)
    assert fields["provider"] == {"order": ["x"]}
    assert fields["reasoning_effort"] == "low"
    assert "chat_template_kwargs" not in fields


def test_settings_that_change_answers_are_in_the_fingerprint():
    plain = backend_of("one#m", one=Server(url="http://h/v1", concurrency=3)).fingerprint
    assert plain == backend_of("http://h/v1#m").fingerprint
    others = [
        backend_of("one#m", one=Server(url="http://h/v1", **settings)).fingerprint
        for settings in ({"temperature": 0.0}, {"reasoning": "high"}, {"extra_body": {"a": 1}})
    ]
    assert len({plain, *others}) == 4


def test_a_field_of_ones_own_that_is_refused_is_named():
    def script(number, fields):
        return (
            (400, {}, {"error": "Unknown parameter: 'provider'"}) if "provider" in fields else None
        )

    with FaultServer(script) as server:
        own = Server(url=server.url, extra_body={"tier": "flex", "provider": {"order": ["x"]}})
        with pytest.raises(InputError) as caught:
            respond(backend_of("fast#m", fast=own), generate_requests(3))
    place = "servers.fast.extra_body.provider"
    assert str(caught.value).startswith(f"{place}: {server.url} does not take it (400 ")
    assert str(caught.value).endswith("'provider'\"}); leave it out")
    assert len(server.requests) == 1


def test_keys_of_own_variables_are_hidden(monkeypatch):
    monkeypatch.setenv("TEAM_LLM", KEY)

    def script(number, fields):
        return (400, {}, f"no {KEY[:12]} {KEY}") if number > PROBES else None

    with FaultServer(script) as server:
        own = Server(url=server.url, key_env="TEAM_LLM")
        (response,) = respond(backend_of("judge#m", judge=own), generate_requests(1))
    assert KEY[:8] not in response.reason


def test_each_server_gets_its_own_key(monkeypatch):
    monkeypatch.setenv("FIRST", "first-key-0123456789")
    monkeypatch.setenv("SECOND", "second-key-0123456789")
    with FaultServer() as one, FaultServer() as two:
        first, second = Server(url=one.url, key_env="FIRST"), Server(url=two.url, key_env="SECOND")
        respond(backend_of("a, b#m", a=first, b=second), generate_requests(30))
    for server, key in ((one, "first"), (two, "second")):
        sent = {h.get("Authorization", h.get("authorization")) for h in server.headers}
        assert sent == {f"Bearer {key}-key-0123456789"}


def test_a_key_that_is_not_set_is_named():
    with pytest.raises(InputError, match="NO_SUCH_KEY: is not set"):
        access_to(addresses_of("a#m", {"a": Server(url="http://h/v1", key_env="NO_SUCH_KEY")})[0])
    with pytest.raises(InputError, match="NO_SUCH: is not set; a header of http://h/v1"):
        access_to(
            addresses_of("a#m", {"a": Server(url="http://h/v1", headers={"X": "${NO_SUCH}"})})[0]
        )


def test_a_provider_has_its_own_key_or_the_general_one(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    for spec in ("groq#m", "https://api.groq.com/openai/v1/#m"):
        assert access_to(addresses_of(spec)[0]).key == "general"
    monkeypatch.setenv("GROQ_API_KEY", "special")
    for spec in ("groq#m", "https://api.groq.com/openai/v1/#m"):
        assert access_to(addresses_of(spec)[0]).key == "special"


def test_names_of_servers():
    own = {"fast": Server(url="http://a/v1, http://b/v1", model="m"), "groq": Server(concurrency=2)}
    assert is_server("groq#m") and is_server("http://h/v1#m") and is_server("groq,openai#m")
    assert not is_server("groq") and not is_server("folder#label") and not is_server("fast")
    assert is_server("fast", own) and is_server("groq#m", own)
    assert [a.url for a in addresses_of("fast", own)] == ["http://a/v1", "http://b/v1"]
    assert model_of("fast", own) == "m" and model_of("fast#n", own) == "n"
    (groq,) = addresses_of("groq#m", own)
    assert (groq.url, groq.server.concurrency) == (providers()["groq"].url, 2)
    assert form_problem("fast", own) == ""
    assert form_problem("groq", {"groq": Server()}).startswith("groq has no model name")
    with pytest.raises(InputError, match="does not begin with http"):
        addresses_of("fas,http://h/v1#m", own)
    assert open_backend("vllm#m").urls == ["http://127.0.0.1:8000/v1"]


def test_queries_in_urls_are_kept():
    with FaultServer() as server:
        respond(backend_of(f"{server.url}?api-version=2024-10-21#m"), generate_requests(1))
    assert set(server.paths) == {"/v1/chat/completions?api-version=2024-10-21"}


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"url": "ftp", "key_env": "A"}, "servers: fast.url must be a base URL or one of openai"),
        ({}, "fast.url must be a base URL"),
        ({"url": "http://h", "key_env": "sk-123"}, "must be the name of an environment variable"),
        ({"url": "http://u:p@h"}, "contains a user, a password or a key"),
        ({"url": "http://h", "headers": {"X-Api-Key": "abc"}}, "X-Api-Key holds a secret"),
        ({"url": "http://h", "headers": {"Authorization": "Bearer x"}}, "holds a secret"),
        ({"url": "http://h", "headers": {"X": "sk-0123456789"}}, "X holds a secret"),
        ({"url": "http://h", "extra_body": {"model": "x"}}, "must not set model"),
        ({"url": "http://h", "concurency": 3}, "did you mean 'concurrency'"),
        ({"url": "http://h", "reasoning": "some"}, "must be one of off, on, minimal"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, server, message):
    prompts = {"red_team": "r", "benign": "b"}
    file = {"constitution": "x", "prompts": prompts, "servers": {"fast": server}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(file))
    with pytest.raises(InputError, match=message):
        load_config(tmp_path / "run.yaml")


def test_settings_on_the_command_line(tmp_path):
    (tmp_path / "run.yaml").write_text("{constitution: x, prompts: {red_team: r, benign: b}}")
    overrides = ["servers.fast.url=http://h/v1", "servers.fast.concurrency=3"]
    servers = load_config(tmp_path / "run.yaml", overrides).servers
    assert servers["fast"].concurrency == 3


def test_the_dearest_server_prices_a_run():
    servers = {
        "a": {"url": "http://a/v1", "model": "m", "price": [1, 2]},
        "b": {"url": "http://b/v1", "model": "m", "price": [0.5, 8]},
        "c": {"url": "http://b/v1", "model": "m", "price": [90, 90]},
    }
    config = config_of(models={"critic": "a", "judge": "b"}, servers=servers)
    assert price_of(config) == "1.0/8.0"
    assert price_of(config_of()) == ""


def test_a_batch_costs_what_its_provider_says():
    servers = {
        "a": {"url": "openai", "model": "m", "price": [1, 2], "batch": True},
        "b": {"url": "http://b/v1", "model": "m", "price": [0.2, 8], "batch": True},
    }
    assert price_of(config_of(models={"judge": "a"}, servers=servers)) == "0.5/1.0"
    assert price_of(config_of(models={"judge": "b"}, servers=servers)) == "0.2/8.0"


def test_a_run_file_names_its_servers(tmp_path, root, monkeypatch):
    rows = [json.dumps({"prompt": f"How do I wash the dog {i}?"}) for i in range(2)]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    with FaultServer() as server:
        file = {
            "constitution": str(root / "constitution/harmless.yaml"),
            "models": {"critic": "mine", "judge": "mine"},
            "servers": {"mine": {"url": server.url, "model": "m", "key_env": "MINE"}},
            "prompts": {"red_team": "p.jsonl", "benign": "p.jsonl"},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(file))
        with pytest.raises(InputError, match="MINE: is not set"):
            check_run(tmp_path / "run.yaml")
        monkeypatch.setenv("MINE", KEY)
        assert check_run(tmp_path / "run.yaml", online=True).config.models.judge == "mine"
    assert len(server.requests) == 2
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
