"""How an answer of a server ended, what of its texts is kept, and that no key is ever in it."""

import json
import math

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer
from test_server import PROBES, completes, model, talk

from cai.backends import open_backend, openai_protocol
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.response_cache import ResponseCache
from cai.config import RunConfig
from cai.errors import InputError, LimitReached
from cai.feedback.sample import sample
from cai.records import Prompt

KEY = "sk-canary-0123456789abcdefghij"
CHOICE = LoglikelihoodRequest(talk("x"), ("Problem", "No problem"))


def first_and_last_decile(reason, content="half a sen", usage=None, **fields):
    """A server all of whose answers after the probe end like this."""
    option_logprobs = {
        "message": {"role": "assistant", "content": content},
        "finish_reason": reason,
        **fields,
    }
    body = {"model": "m", "choices": [option_logprobs]} | (
        {} if usage is None else {"usage": usage}
    )
    return FaultServer(lambda number, sent: (200, {}, body) if number > PROBES else None)


@pytest.mark.parametrize(
    ("reason", "finish_reason", "text"),
    [
        ("stop", "stop", "half a sen"),
        ("STOP", "stop", "half a sen"),
        ("eos_token", "stop", "half a sen"),
        ("length", "length", "half a sen"),
        ("MAX_TOKENS", "length", "half a sen"),
        ("content_filter", "filtered", ""),
        ("tool_calls", "failed", ""),
        ("function_call", "failed", ""),
        ("unheard_of", "failed", ""),
    ],
)
def test_only_known_finish_reasons_are_good_ends(reason, finish_reason, text):
    with first_and_last_decile(reason) as server:
        (answer,) = model(server.backend(), completes(1))
    assert (answer.finish_reason, answer.text) == (finish_reason, text) and len(
        server.requests
    ) == PROBES + 1
    assert answer.reason == ("" if text else f"finish_reason {reason!r}")


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_the_server_broke_off_is_asked_for_again(reason):
    with first_and_last_decile(reason) as server:
        (answer,) = model(server.backend(attempts=3), completes(1))
    assert answer.finish_reason == "failed" and len(server.requests) == PROBES + 3
    assert answer.reason == f"the server did not finish the answer: finish_reason {reason!r}"


@pytest.mark.parametrize(("written", "finish_reason"), [(5, "stop"), (256, "length")])
def test_without_a_finish_reason_the_number_of_tokens_says_how_it_ended(written, finish_reason):
    with first_and_last_decile(
        None, usage={"prompt_tokens": 3, "completion_tokens": written}
    ) as server:
        assert model(server.backend(), completes(1))[0].finish_reason == finish_reason


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3, "completion_tokens": None}])
def test_without_either_nobody_knows_whether_the_text_is_whole(usage):
    with first_and_last_decile(None, usage=usage) as server:
        (answer,) = model(server.backend(attempts=2), completes(1))
    assert (answer.finish_reason, answer.text) == (
        "failed",
        "",
    ) and "neither a finish_reason nor a number of tokens" in answer.reason


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("length", "stop"),
        (None, "stop"),
        ("content_filter", "filtered"),
        ("tool_calls", "failed"),
    ],
)
def test_verdicts_of_the_first_token(reason, finish_reason):
    tokens = [{"token": "Problem", "logprob": -0.1}, {"token": "No", "logprob": -2.0}]
    with first_and_last_decile(
        reason, logprobs={"content": [{"top_logprobs": tokens}]}, usage={"prompt_tokens": 9}
    ) as server:
        (answer,) = model(server.backend(), [CHOICE])
    assert answer.finish_reason == finish_reason and answer.tokens_in == 9
    assert (answer.logprobs == pytest.approx((-0.1, -2.0))) is (finish_reason == "stop")


def test_votes_that_were_filtered_are_not_counted():
    said = [
        ("Problem", "length"),
        ("No problem", "content_filter"),
        ("Problem", "stop"),
        ("No problem", "tool_calls"),
    ]
    body = {
        "choices": [
            {"message": {"content": text}, "finish_reason": reason} for text, reason in said
        ]
    }
    found = openai_protocol.option_logprobs(
        openai_protocol.parse(body, "chat"), CHOICE, logprobs=False
    )
    assert found.votes == 2 and [math.exp(p) for p in found.logprobs] == [1.0, 0.0]


def test_a_filtered_answer_is_a_record_with_its_reason(tmp_path):
    with first_and_last_decile("content_filter") as server, ResponseCache(tmp_path / "m") as cache:
        (made,) = sample([Prompt.of("x")], cache.cached_model(server.backend()))
    assert (made.status, made.reason) == ("filtered", "finish_reason 'content_filter'")


# -- odd bodies --------------------------------------------------------------------------------------------------------


def test_lone_surrogates_in_an_answer_are_replaced(tmp_path):
    body = r'{"model": "m\ud800", "choices": [{"message": {"content": "a \ud83d b", "reasoning": "\udc00"}, "finish_reason": "stop"}]}'
    with (
        FaultServer(lambda n, f: (200, {}, body) if n > PROBES else None) as server,
        ResponseCache(tmp_path / "m") as cache,
    ):
        backend = server.backend()
        (made,) = sample([Prompt.of("x")], cache.cached_model(backend))
    assert (made.response, made.reasoning) == (
        "a \ufffd b",
        "\ufffd",
    ) and made.model_dump_json().encode()
    assert all(note.encode() for note in backend.notes)


@pytest.mark.parametrize(
    "body", ["[" * 100_000, b'{"choices": [{"message": {"content": "\xff"}}]}']
)
def test_a_body_that_cannot_be_read_is_a_failure_of_one_call(body):
    with FaultServer(lambda n, f: (200, {}, body) if n == PROBES + 1 else None) as server:
        answers = model(server.backend(attempts=1, concurrency=1), completes(3))
    assert [a.finish_reason for a in answers] == ["failed", "stop", "stop"] and answers[
        0
    ].reason.startswith("malformed answer: ")


@pytest.mark.parametrize("tokens", [10**30, -5, None, "many", 1.5])
def test_numbers_of_tokens_that_cannot_be_are_not_counted(tokens, tmp_path):
    with (
        first_and_last_decile(
            "stop", usage={"prompt_tokens": tokens, "completion_tokens": 4}
        ) as server,
        ResponseCache(tmp_path / "m") as cache,
    ):
        (answer,) = cache.cached_model(server.backend())(completes(1))
        assert (answer.tokens_in, answer.tokens_out, cache.totals()[""].tokens_in) == (0, 4, 0)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return KEY


def test_a_key_at_the_place_where_a_message_is_cut_is_not_cut_but_gone(key):
    for at in range(280, 305, 3):
        with FaultServer(
            lambda n, f, at=at: (400, {}, "x" * at + key) if n > PROBES else None
        ) as server:
            (answer,) = model(server.backend(), completes(1))
        assert answer.reason.startswith("400 xxx") and key[:10] not in answer.reason


def test_a_server_that_repeats_the_key_leaves_none_in_answers_and_notes(key, tmp_path):
    body = {
        "model": f"m {key}",
        "choices": [
            {
                "message": {"content": f"your key is {key}", "reasoning": key},
                "finish_reason": "stop",
            }
        ],
    }
    with (
        FaultServer(lambda n, f: (200, {}, body) if n > PROBES else None) as server,
        ResponseCache(tmp_path / "m") as cache,
    ):
        backend = server.backend()
        (made,) = sample([Prompt.of("x")], cache.cached_model(backend))
    assert made.response == "your key is ***" and made.reasoning == "***"
    assert (
        backend.notes
        and key not in repr(backend.notes)
        and key.encode() not in (tmp_path / "m").read_bytes()
    )


def test_a_key_from_a_file_may_end_in_a_line_break(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    with FaultServer() as server:
        assert model(server.backend(), completes(1))[0].text == "1 words"
    assert {
        value
        for headers in server.headers
        for name, value in headers.items()
        if name.lower() == "authorization"
    } == {f"Bearer {KEY}"}


@pytest.mark.parametrize("odd", [f"{KEY}\nX: y", f"{KEY} {KEY}", f"{KEY}é"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch, odd):
    monkeypatch.setenv("OPENAI_API_KEY", odd)
    with (
        FaultServer() as server,
        pytest.raises(InputError, match="OPENAI_API_KEY: holds") as caught,
    ):
        model(server.backend(), completes(1))
    assert "canary" not in str(caught.value) and server.requests == []


@pytest.mark.parametrize(
    "address",
    [f"http://127.0.0.1:9/v1?api_key={KEY}#m", f"http://h/v1,http://u:{KEY}@127.0.0.1:9/v1#m"],
)
def test_a_key_in_an_address_is_refused_and_not_shown(address):
    with pytest.raises(InputError, match="set OPENAI_API_KEY") as caught:
        open_backend(address)
    assert "canary" not in str(caught.value)
    settings = {
        "constitution": "x",
        "models": {"critic": address},
        "prompts": {"red_team": "a", "benign": "b"},
    }
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        RunConfig.model_validate(settings)
    assert RunConfig.model_validate(
        settings | {"models": {"critic": "https://h/v1?api-version=2024-02-01#m@2"}}
    )


def test_what_the_first_call_meets_is_said_without_the_key(key):
    refuses = lambda number, fields: (400, {}, json.dumps({"error": f"{'x' * 290} {key}"}))  # noqa: E731
    with (
        FaultServer(refuses) as server,
        pytest.raises(LimitReached, match="the first call failed: 400") as caught,
    ):
        model(server.backend(), completes(1))
    assert key[:10] not in str(caught.value)


def test_words_of_a_filter_are_found_however_late_they_stand():
    with FaultServer(
        lambda n, f: (400, {}, "x" * 1000 + " content_filter") if n > PROBES else None
    ) as server:
        assert (
            model(server.backend(), [GenerateRequest(talk("x"), 0)])[0].finish_reason == "filtered"
        )
