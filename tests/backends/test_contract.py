"""What every backend must do, whatever is behind it."""

import math

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer
from request_helpers import conversation, respond

from cai.backends.local import LocalBackend
from cai.backends.protocol import Completion, GenerateRequest, LoglikelihoodRequest, OptionLogprobs
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.records import Message


def scripted():
    return ScriptedBackend(
        lambda messages, seed: f"{messages[-1].content} {seed}",
        lambda messages, options: [math.log(0.6), math.log(0.3)],
    )


@pytest.fixture(
    params=["scripted", "tiny", "tiny_gpt2", "transcript", "server", "server without logprobs"]
)
def backend(request):
    if request.param == "scripted":
        yield scripted()
    elif request.param.startswith("server"):
        with FaultServer(logprobs="without" not in request.param) as server:
            yield server.backend()
    elif request.param == "transcript":
        yield LocalBackend(request.getfixturevalue("tiny"), "transcript")
    else:
        yield LocalBackend(request.getfixturevalue(request.param))


REQUESTS = [
    *(
        GenerateRequest(conversation(f"How do I wash the {animal}?"), seed=seed, max_tokens=6)
        for animal in ("dog", "cat")
        for seed in (1, 2)
    ),
    GenerateRequest(conversation("How do I wash the dog?"), seed=1, temperature=0.0, max_tokens=3),
    *(
        LoglikelihoodRequest(conversation(f"Is the {animal} wet?"), ("Problem", "No problem"))
        for animal in ("dog", "cat", "horse")
    ),
]


def test_every_request_gets_one_response_of_its_type(backend):
    pairs = list(backend.respond(REQUESTS))
    assert sorted(index for index, _ in pairs) == list(range(len(REQUESTS)))
    for index, response in pairs:
        assert response.finish_reason in ("stop", "length")
        assert response.tokens_in > 0
        if isinstance(REQUESTS[index], LoglikelihoodRequest):
            assert isinstance(response, OptionLogprobs)
            assert len(response.logprobs) == 2
            assert all(value <= 1e-6 for value in response.logprobs)
            assert sum(map(math.exp, response.logprobs)) <= 1 + 1e-6
        else:
            assert isinstance(response, Completion)
            assert response.tokens_out >= 0


def test_responses_do_not_depend_on_other_requests(backend):
    for request, batched in zip(REQUESTS, respond(backend, REQUESTS), strict=True):
        (standalone,) = respond(backend, [request])
        if isinstance(request, LoglikelihoodRequest):
            assert standalone.logprobs == pytest.approx(batched.logprobs, abs=1e-4)
        else:
            assert standalone.text == batched.text


def test_no_requests_no_responses(backend):
    assert list(backend.respond([])) == []


def test_fingerprint_and_rendered_prompts(backend):
    assert isinstance(backend.fingerprint, str)
    assert backend.fingerprint
    reply = Message(role="assistant", content="x")
    texts = [
        backend.render(GenerateRequest(messages, seed=0))
        for messages in (
            conversation("a b"),
            conversation("a c"),
            (*conversation("a b"), reply, *conversation("y")),
        )
    ]
    assert len(set(texts)) == 3
    assert backend.render(REQUESTS[0]) == backend.render(REQUESTS[1])


def test_closing_the_iterator_early_is_harmless(backend):
    stream = backend.respond(REQUESTS)
    next(stream)
    stream.close()
    assert len(respond(backend, REQUESTS)) == len(REQUESTS)


def test_stop_ends_the_current_respond_only(backend):
    backend.stop()  # nothing runs: nothing happens
    many = REQUESTS * 100
    stream = backend.respond(many)
    first = next(stream)
    backend.stop()
    received = [first, *stream]
    assert 1 <= len(received) < len(many)
    assert len({index for index, _ in received}) == len(received)
    assert len(respond(backend, REQUESTS)) == len(REQUESTS)


def test_cache_sends_every_request_once(backend, tmp_path):
    with ResponseCache(tmp_path / "m") as cache:
        model = cache.cached_model(backend, "s")
        assert model.fingerprint  # a server is asked a few questions before
        probes = cache.totals()["s"].requests if cache.totals() else 0
        assert model(REQUESTS) == cache.cached_model(backend, "s")(REQUESTS)
        assert cache.totals()["s"].requests == probes + len(REQUESTS)


def test_prompt_beyond_the_context_has_a_reason(tiny):
    long = conversation("word " * 600)
    completion, option_logprobs = respond(
        LocalBackend(tiny),
        [GenerateRequest(long, seed=1, max_tokens=6), LoglikelihoodRequest(long, ("yes", "no"))],
    )
    assert completion.finish_reason == option_logprobs.finish_reason == "too_long"
    assert completion.reason == (
        f"prompt of {completion.tokens_in} tokens plus 6 for the response exceeds "
        "the model's context of 512"
    )
    assert option_logprobs.reason.startswith(f"prompt of {option_logprobs.tokens_in} tokens plus ")
    assert all(map(math.isnan, option_logprobs.logprobs))
