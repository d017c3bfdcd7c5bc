"""What every backend owes its callers, whatever answers behind it."""

import math

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer

from cai.backends.local import LocalBackend
from cai.backends.memo import Memo
from cai.backends.protocol import Choice, Choose, Complete, Completion
from cai.backends.scripted import ScriptedBackend
from cai.records import Message


def talk(text):
    return (Message(role="user", content=text),)


def scripted():
    return ScriptedBackend(
        lambda messages, seed: f"{messages[-1].content} {seed}", lambda messages, options: [math.log(0.6), math.log(0.3)]
    )


@pytest.fixture(params=["scripted", "tiny", "tiny_gpt2", "transcript", "server", "server without log-probabilities"])
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
    *(Complete(talk(f"How do I wash the {animal}?"), seed=seed, max_tokens=6) for animal in ("dog", "cat") for seed in (1, 2)),
    Complete(talk("How do I wash the dog?"), seed=1, temperature=0.0, max_tokens=3),
    *(Choose(talk(f"Is the {animal} wet?"), ("Problem", "No problem")) for animal in ("dog", "cat", "horse")),
]


def answers(backend, calls):
    found = list(backend.answers(calls))
    assert sorted(i for i, _ in found) == list(range(len(calls))), "each call is answered once"
    return [answer for _, answer in sorted(found, key=lambda pair: pair[0])]


def test_each_call_is_answered_once_by_an_answer_of_its_kind(backend):
    for call, answer in zip(CALLS, answers(backend, CALLS), strict=True):
        assert answer.finish in ("stop", "length") and answer.tokens_in > 0
        if isinstance(call, Choose):
            assert isinstance(answer, Choice) and len(answer.logprobs) == 2
            assert all(value <= 1e-6 for value in answer.logprobs) and sum(map(math.exp, answer.logprobs)) <= 1 + 1e-6
        else:
            assert isinstance(answer, Completion) and answer.tokens_out >= 0


def test_the_same_call_has_the_same_answer_whatever_stands_beside_it(backend):
    together = answers(backend, CALLS)
    for call, found in zip(CALLS, together, strict=True):
        (alone,) = answers(backend, [call])
        if isinstance(call, Choose):
            assert alone.logprobs == pytest.approx(found.logprobs, abs=1e-4)
        else:
            assert alone.text == found.text


def test_nothing_is_asked_for_nothing(backend):
    assert list(backend.answers([])) == []


def test_what_differs_reads_differently_and_has_a_name(backend):
    assert isinstance(backend.fingerprint, str) and backend.fingerprint
    texts = [
        backend.rendered(Complete(messages, seed=0))
        for messages in (talk("a b"), talk("a c"), (*talk("a b"), Message(role="assistant", content="x"), *talk("y")))
    ]
    assert len(set(texts)) == 3 and backend.rendered(CALLS[0]) == backend.rendered(CALLS[1])


def test_whoever_leaves_early_leaves_no_trouble(backend):
    stream = backend.answers(CALLS)
    next(stream)
    stream.close()
    assert len(answers(backend, CALLS)) == len(CALLS)


def test_the_memo_asks_it_only_once(backend, tmp_path):
    with Memo(tmp_path / "m") as memo:
        first = memo.asker(backend, "s")(CALLS)
        again = memo.asker(backend, "s")(CALLS)
        assert first == again and memo.totals()["s"].calls == len(CALLS)


def test_a_prompt_beyond_the_context_says_by_how_much(tiny):
    long = talk("word " * 600)
    completion, choice = answers(LocalBackend(tiny), [Complete(long, seed=1, max_tokens=6), Choose(long, ("yes", "no"))])
    assert (completion.finish, choice.finish) == ("too_long", "too_long")
    assert completion.note == f"prompt of {completion.tokens_in} tokens + 6 for the answer is beyond the model's context of 512"
    assert choice.note.startswith(f"prompt of {choice.tokens_in} tokens + ")
