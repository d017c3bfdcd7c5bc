"""What a server refuses is learnt from its words, once, and left out from then on."""

import json

import pytest

pytest.importorskip("openai")

from fault_server import FaultServer
from request_helpers import generate_requests, respond

from cai.backends.capabilities import Capabilities
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest
from cai.backends.refusals import adapted, learn
from cai.backends.server_errors import read_error
from cai.records import Message

FIELDS = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
    "temperature": 0.0,
    "top_p": 1.0,
    "max_tokens": 512,
    "seed": 3,
    "n": 8,
    "logprobs": True,
    "top_logprobs": 20,
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
}


def after(message, **fields):
    """The fields of the next request after a refusal, and what the user is told."""
    can = Capabilities()
    error = read_error(400, json.dumps({"error": {"message": message, **fields}}))
    note = learn(error, FIELDS, can)
    return adapted(FIELDS, can), note, can


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        ("Unsupported value: 'temperature' does not support 0 with this model.", "temperature"),
        ("property 'seed' is unsupported", "seed"),
        ('Invalid JSON payload received. Unknown name "seed": Cannot find field.', "seed"),
        ("'n' : number must be at most 1", "n"),
        ("No endpoints found that support the provided 'seed' value.", "seed"),
    ],
)
def test_fields_are_left_out(message, name):
    fields, note, _ = after(message)
    assert FIELDS.keys() - fields.keys() == {name}
    assert note


def test_max_tokens_has_another_name():
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    fields, note, _ = after(message)
    assert fields["max_completion_tokens"] == 512 and "max_tokens" not in fields
    assert note == "takes max_completion_tokens in place of max_tokens"


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 512. This model supports at most 256 completion tokens.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 256]",
        "`max_tokens` must be less than or equal to `256`",
    ],
)
def test_limits_of_answers_are_kept(message):
    fields, note, _ = after(message)
    assert fields["max_tokens"] == 256
    assert "256" in note


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Invalid value for 'top_logprobs': must be less than or equal to 5.", 5),
        ("Requested sample logprobs of 20, which is greater than max allowed: 8", 8),
        ("20 is greater than the maximum of 1 - 'logprobs'", None),
        ("`logprobs` is not supported with this model", None),
    ],
)
def test_log_probabilities_are_capped_or_replaced(message, expected):
    fields, _, can = after(message)
    assert can.logprobs == (expected is not None)
    assert not can.logprobs or fields["top_logprobs"] == expected


@pytest.mark.parametrize(
    "message",
    [
        "System role not supported",
        "Developer instruction is not enabled for models/gemma-3",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "'messages[0].role' does not support 'system' with this model.",
    ],
)
def test_system_message_is_put_before_the_first_turn(message):
    fields, note, _ = after(message)
    assert fields["messages"] == [{"role": "user", "content": "Be kind.\n\nHi"}]
    assert "system" in note


def test_words_that_name_nothing_teach_nothing():
    assert after("bad request")[1] is None
    assert after("an answer must stop somewhere")[1] is None


def refusing(name, message):
    def script(number, fields):
        return (400, {}, {"error": {"message": message}}) if name in fields else None

    return script


def test_a_refusal_is_met_once_and_said_once():
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with FaultServer(refusing("max_tokens", message)) as server:
        backend = server.backend()
        for _ in range(2):
            assert [r.text for r in respond(backend, generate_requests(2))] == [
                "1 words",
                "2 words",
            ]
    assert sum("max_tokens" in fields for fields in server.requests) == 1
    assert backend.notes == [f"{server.url} takes max_completion_tokens in place of max_tokens"]


def test_a_refusal_without_words_is_found_by_trying():
    with FaultServer(refusing("seed", "Bad Request")) as server:
        backend = server.backend()
        assert [r.text for r in respond(backend, generate_requests(2))] == ["1 words", "2 words"]
    assert f"{server.url} does not take seed" in backend.notes


def test_votes_are_asked_for_one_by_one():
    score = LoglikelihoodRequest((Message(role="user", content="x"),), ("Problem", "No"))
    with FaultServer(refusing("n", "'n' must be 1"), logprobs=False) as server:
        server.body = lambda fields, number: {
            "model": "m",
            "choices": [{"message": {"content": "Problem"}, "finish_reason": "stop"}],
        }
        (response,) = respond(server.backend(), [score])
    assert response.votes == 8


def test_answers_to_long_prompts_end_with_the_context():
    message = (
        "This model's maximum context length is 100 tokens. However, you requested 316 tokens "
        "(60 in the messages, 256 in the completion)."
    )

    def script(number, fields):
        return (400, {}, {"error": {"message": message}}) if fields["max_tokens"] > 40 else None

    request = GenerateRequest((Message(role="user", content="x"),), seed=1)
    with FaultServer(script) as server:
        backend = server.backend()
        (response,) = respond(backend, [request])
    assert response.finish_reason == "stop"
    assert server.requests[-1]["max_tokens"] == 40
    assert "has a context of 100 tokens" in backend.notes[0]
