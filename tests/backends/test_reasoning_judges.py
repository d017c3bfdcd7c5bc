"""Models on servers that reason before they answer: kept apart, paid for, and scored after it."""

import json
import math

import pytest
from fault_server import FAST, PROBES, FaultServer
from request_helpers import conversation, respond

from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.server import ServerBackend, ServerSettings

SCORE = LoglikelihoodRequest(conversation("Which is kinder?"), ("A", "B"), "The answer is: (")
WRITE = GenerateRequest(conversation("Criticize the reply."), seed=1, max_tokens=16)


def body(content, *, tokens=(), finish="stop", **message):
    """A response; ``tokens`` are (token, {alternative: probability}) pairs."""
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    if tokens:
        choice["logprobs"] = {
            "content": [
                {
                    "token": token,
                    "logprob": 0.0,
                    "top_logprobs": [
                        {"token": other, "logprob": math.log(p)} for other, p in tops.items()
                    ],
                }
                for token, tops in tokens
            ]
        }
    return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 500}}


def thinker(answer, probe="<think>Two words."):
    """A server whose model reasons whatever it is told; the probes are cut in their thoughts."""

    def script(number, fields):
        if fields["max_tokens"] == 12:
            return 200, {}, body(probe, finish="length")
        return 200, {}, answer(fields)

    return FaultServer(script)


def test_options_are_scored_where_the_answer_begins():
    tokens = [
        ("<think>", {"<think>": 1.0}),
        ("B", {"B": 0.9, "A": 0.1}),
        ("?", {"?": 1.0}),
        ("</think>", {"</think>": 1.0}),
        ("\n\n", {"\n\n": 1.0}),
        ("A", {"A": 0.8, "B": 0.15, "It": 0.05}),
    ]
    with thinker(lambda fields: body("<think>B?</think>\n\nA", tokens=tokens)) as server:
        (response,) = respond(server.backend(), [SCORE])
        sent = server.requests[-1]
    assert [math.exp(p) for p in response.logprobs] == pytest.approx([0.8, 0.15])
    assert response.tokens_out == 500
    assert sent["max_tokens"] > 2048 and sent["messages"][-1]["role"] == "user"
    assert "A or B alone" in sent["messages"][-1]["content"]


def test_a_server_that_keeps_the_reasoning_apart_is_scored_at_the_answer_too():
    tokens = [("A", {"A": 1.0}), (" no", {" no": 1.0}), (" B", {" B": 0.7, " A": 0.2})]
    answer = body(" B", tokens=tokens, reasoning="A no")
    with thinker(lambda fields: answer, probe="") as server:
        (response,) = respond(server.backend(), [SCORE])
    assert [math.exp(p) for p in response.logprobs] == pytest.approx([0.2, 0.7])


def test_an_answer_that_is_cut_in_its_reasoning_is_no_answer():
    cut = body("<think>A or", finish="length", tokens=[("<think>", {"A": 1.0})])
    with thinker(lambda fields: cut) as server:
        scored, written = respond(server.backend(), [SCORE, WRITE])
    assert scored.finish_reason == written.finish_reason == "length"
    assert (written.text, written.reasoning) == ("", "A or")
    for response in (scored, written):
        assert "models.reasoning_tokens" in response.reason


def test_reasoning_gets_tokens_of_its_own():
    with thinker(lambda fields: body("<think>Hm.</think>Rude.")) as server:
        settings = ServerSettings(**FAST)
        backend = ServerBackend(server.spec, reasoning_tokens=100, settings=settings)
        (written,) = respond(backend, [WRITE])
        assert server.requests[-1]["max_tokens"] == 116
    assert (written.text, written.reasoning) == ("Rude.", "Hm.")
    assert any("reasons before it answers" in note for note in backend.notes)
    other = ServerBackend(server.spec, settings=settings)
    assert backend.fingerprint != other.fingerprint


def test_reasoning_that_the_prompt_opened_is_found_by_a_longer_question():
    def script(number, fields):
        if fields["max_tokens"] == 12:
            return 200, {}, body("Okay, the user wants two words. I", finish="length")
        return 200, {}, body("Okay. Hm.</think>Rude.")

    with FaultServer(script) as server:
        (written,) = respond(server.backend(), [WRITE])
    assert (written.text, written.reasoning) == ("Rude.", "Okay. Hm.")
    assert server.requests[-1]["max_tokens"] == 16 + 2048


def test_votes_are_read_after_the_reasoning():
    def answer(fields):
        if fields.get("logprobs"):
            return body("no log-probabilities here")
        texts = ["<think>B?</think>A"] * 6 + ["<think>A?</think>B"] + ["<think>A?"]
        choices = [{"message": {"content": t}, "finish_reason": "stop"} for t in texts]
        choices[-1]["finish_reason"] = "length"
        return {"choices": choices}

    with thinker(answer) as server:
        (response,) = respond(server.backend(), [SCORE])
    assert [math.exp(p) for p in response.logprobs] == pytest.approx([6 / 7, 1 / 7])
    assert response.fallback == "7 of 8 votes instead of log-probabilities"


def test_few_log_probabilities_are_said():
    with FaultServer() as server:
        request = LoglikelihoodRequest(conversation("Any?"), ("Problem", "No"))
        (response,) = respond(server.backend(), [request])
    assert response.fallback == "3 log-probabilities instead of 20"


def test_a_model_that_does_not_reason_is_asked_as_before():
    with FaultServer() as server:
        respond(server.backend(), [WRITE])
    assert len(server.requests) == PROBES + 1
    assert server.requests[-1]["max_tokens"] == 16
    assert "reasoning" not in json.dumps(server.requests)
