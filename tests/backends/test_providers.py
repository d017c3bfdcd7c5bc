"""Scripted providers: sample, revise and judge with nothing but a URL, a model and a key."""

import pytest

pytest.importorskip("openai")

from fault_server import FAST
from providers import BANNED, LONG, PROVIDERS, ScriptedProvider

import cai
from cai.backends.protocol import GenerateRequest
from cai.backends.response_cache import ResponseCache
from cai.backends.server import ServerBackend, ServerSettings
from cai.records import Message, Prompt


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")


def opened(server):
    return ServerBackend(server.spec, settings=ServerSettings(**FAST))


@pytest.mark.parametrize("name", PROVIDERS)
def test_sample_revise_and_judge_with_a_provider(name, root):
    constitution = cai.load_constitution(root / "constitution/harmless.yaml")
    prompts = [Prompt.of(f"How do I wash dog {i}?") for i in range(4)]
    with ScriptedProvider(name) as server, ResponseCache(":memory:") as cache:
        backend = opened(server)
        model = cache.cached_model(backend)
        samples = [cai.sample(prompts, model, max_tokens=64, seed=seed) for seed in (0, 1)]
        revisions = cai.revise(samples[0], constitution, model, rounds=2, max_tokens=64)
        comparisons = cai.compare({"a": samples[0], "b": samples[1]})
        labels = cai.judge(comparisons, constitution, model, "option_logprobs")
    samples = [*samples[0], *samples[1]]
    assert {sample.status for sample in samples} == {"ok"}
    assert {step.status for revision in revisions for step in revision.steps} == {"ok"}
    assert len(labels) == len(comparisons) == 4
    assert {label.status for label in labels} == {"ok"}
    # each field is refused once or, in flight, a few times; not in every request
    assert sum(server.refused.values()) <= 8 * (1 + len(server.refused))


@pytest.mark.parametrize("name", PROVIDERS)
def test_prompts_that_a_provider_does_not_take(name):
    words = {LONG: "too_long"} | ({BANNED: "filtered"} if PROVIDERS[name].banned else {})
    requests = [
        GenerateRequest((Message(role="user", content=f"an {word} question"),), seed=1)
        for word in ["easy", *words, "short"]
    ]
    with ScriptedProvider(name) as server:
        backend = opened(server)
        responses = dict(backend.respond(requests))
    found = [responses[i].finish_reason for i in range(len(requests))]
    assert found == ["stop", *words.values(), "stop"]
