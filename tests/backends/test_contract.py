"""What every backend owes its callers, whatever answers behind it."""

import math

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer

from cai.backends.local import LocalBackend
from cai.backends.protocol import Completion, GenerateRequest, LoglikelihoodRequest, OptionLogprobs
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.records import Message


def talk(text):
    return (Message(role="user", content=text),)


def scripted():
    return ScriptedBackend(
        lambda messages, seed: f"{messages[-1].content} {seed}",
        lambda messages, options: [math.log(0.6), math.log(0.3)],
    )


@pytest.fixture(
    params=[
        "scripted",
        "tiny",
        "tiny_gpt2",
        "transcript",
        "server",
        "server without log-probabilities",
    ]
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


CALLS = [
    *(
        GenerateRequest(talk(f"How do I wash the {animal}?"), seed=seed, max_tokens=6)
        for animal in ("dog", "cat")
        for seed in (1, 2)
    ),
    GenerateRequest(talk("How do I wash the dog?"), seed=1, temperature=0.0, max_tokens=3),
    *(
        LoglikelihoodRequest(talk(f"Is the {animal} wet?"), ("Problem", "No problem"))
        for animal in ("dog", "cat", "horse")
    ),
]


def answers(backend, requests):
    found = list(backend.respond(requests))
    assert sorted(i for i, _ in found) == list(range(len(requests))), "each call is answered once"
    return [answer for _, answer in sorted(found, key=lambda pair: pair[0])]


def test_each_call_is_answered_once_by_an_answer_of_its_kind(backend):
    for request, answer in zip(CALLS, answers(backend, CALLS), strict=True):
        assert answer.finish_reason in ("stop", "length") and answer.tokens_in > 0
        if isinstance(request, LoglikelihoodRequest):
            assert isinstance(answer, OptionLogprobs) and len(answer.logprobs) == 2
            assert (
                all(value <= 1e-6 for value in answer.logprobs)
                and sum(map(math.exp, answer.logprobs)) <= 1 + 1e-6
            )
        else:
            assert isinstance(answer, Completion) and answer.tokens_out >= 0


def test_the_same_call_has_the_same_answer_whatever_stands_beside_it(backend):
    together = answers(backend, CALLS)
    for request, found in zip(CALLS, together, strict=True):
        (standalone,) = answers(backend, [request])
        if isinstance(request, LoglikelihoodRequest):
            assert standalone.logprobs == pytest.approx(found.logprobs, abs=1e-4)
        else:
            assert standalone.text == found.text


def test_nothing_is_asked_for_nothing(backend):
    assert list(backend.respond([])) == []


def test_what_differs_reads_differently_and_has_a_name(backend):
    assert isinstance(backend.fingerprint, str) and backend.fingerprint
    texts = [
        backend.render(GenerateRequest(messages, seed=0))
        for messages in (
            talk("a b"),
            talk("a c"),
            (*talk("a b"), Message(role="assistant", content="x"), *talk("y")),
        )
    ]
    assert len(set(texts)) == 3 and backend.render(CALLS[0]) == backend.render(CALLS[1])


def test_whoever_leaves_early_leaves_no_trouble(backend):
    stream = backend.respond(CALLS)
    next(stream)
    stream.close()
    assert len(answers(backend, CALLS)) == len(CALLS)


def test_the_memo_asks_it_only_once(backend, tmp_path):
    with ResponseCache(tmp_path / "m") as cache:
        first = cache.cached_model(backend, "s")(CALLS)
        again = cache.cached_model(backend, "s")(CALLS)
        assert first == again and cache.totals()["s"].requests == len(CALLS)


def test_a_prompt_beyond_the_context_says_by_how_much(tiny):
    long = talk("word " * 600)
    completion, option_logprobs = answers(
        LocalBackend(tiny),
        [GenerateRequest(long, seed=1, max_tokens=6), LoglikelihoodRequest(long, ("yes", "no"))],
    )
    assert (completion.finish_reason, option_logprobs.finish_reason) == ("too_long", "too_long")
    assert (
        completion.reason
        == f"prompt of {completion.tokens_in} tokens + 6 for the answer is beyond the model's context of 512"
    )
    assert option_logprobs.reason.startswith(f"prompt of {option_logprobs.tokens_in} tokens + ")
