"""Answers that come as a stream of events, although they were asked for as a whole."""

import json
import math
import threading
import time

import pytest
from fault_server import PATIENCE, PROBES, FaultServer, after_probes
from request_helpers import assert_tried_again, conversation, generate_requests, respond

from cai.backends.event_stream import decode_body
from cai.backends.openai_schema import parse_body
from cai.backends.protocol import GenerateRequest, LoglikelihoodRequest


def stream(*events, end="[DONE]"):
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return ": keep-alive\n\n" + "".join(lines) + f"data: {end}\n\n"


def part(finish_reason=None, **delta):
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


WHOLE = (
    part(role="assistant", content=""),
    part(reasoning_content="Two "),
    part(reasoning_content="words."),
    part(content="Hello"),
    part(content=" there", finish_reason="stop"),
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}},
)


def test_events_are_joined_into_an_answer():
    body = stream(*WHOLE)
    with FaultServer(after_probes(200, {"Content-Type": "text/event-stream"}, body)) as server:
        (response,) = respond(server.backend(), generate_requests(1))
        assert all(fields["stream"] is False for fields in server.requests)
    assert (response.text, response.reasoning) == ("Hello there", "Two words.")
    assert (response.finish_reason, response.tokens_in, response.tokens_out) == ("stop", 7, 4)


@pytest.mark.parametrize(
    "said",
    [
        {"detail": "Stream must be set to true"},
        {"error": {"message": "This model only support stream mode, please enable the stream ..."}},
    ],
)
def test_a_server_that_only_streams_is_asked_to(said):
    def script(number, fields):
        return (200, {}, stream(*WHOLE)) if fields["stream"] else (400, {}, said)

    with FaultServer(script) as server:
        responses = respond(server.backend(), generate_requests(5))
        refused = [fields for fields in server.requests if not fields["stream"]]
    assert [response.text for response in responses] == ["Hello there"] * 5
    assert [response.tokens_out for response in responses] == [4] * 5
    assert len(refused) == 1


class ReadAlong:
    """A server that sends each part of an answer once what came before it could be read."""

    def __init__(self, *parts):
        self.parts, self.seen = parts, []
        self.server = FaultServer(self.script)
        self.backend = self.server.backend()
        self.backend.stream()

    def script(self, number, _):
        return (200, {}, self.body()) if number > PROBES else None

    def body(self):
        for event, text in self.parts:
            yield f"data: {json.dumps(event)}\n\n"
            if text == "stop":
                self.backend.stop()
            while self.backend.written() != text:
                time.sleep(0.001)
                if text == "stop":
                    yield ": keep-alive\n\n"
            self.seen.append(text)


def test_a_text_is_read_along_while_it_is_written():
    texts = ("", "", "", "Hello", "Hello there", "Hello there")
    along = ReadAlong(*zip(WHOLE, texts, strict=True))
    with along.server as server:
        (response,) = respond(along.backend, generate_requests(1))
        assert server.requests[-1]["stream_options"] == {"include_usage": True}
    assert along.seen == list(texts)
    assert (response.text, response.finish_reason, response.tokens_out) == (
        "Hello there",
        "stop",
        4,
    )
    assert along.backend.written() == ""


def test_thoughts_are_not_shown_while_they_are_written():
    pieces = ("<think>Two", " words.</think>", "\n\nHello", " there")
    events = [part(content=piece) for piece in pieces]
    texts = ("", "", "Hello", "Hello there", "Hello there")
    ended = part(content="", finish_reason="stop")
    along = ReadAlong(*zip([*events, ended], texts, strict=True))
    with along.server:
        (response,) = respond(along.backend, generate_requests(1))
    assert along.seen == list(texts)
    assert (response.text, response.reasoning) == ("Hello there", "Two words.")


def test_a_text_that_is_stopped_while_it_is_written_is_given_up():
    """The server would go on without end."""
    along = ReadAlong((part(content="Hello"), "Hello"), (part(content=" you"), "stop"))
    with along.server:
        assert list(along.backend.respond(generate_requests(1))) == []
    assert along.seen == ["Hello"]


def test_a_server_that_does_not_stream_is_asked_for_the_whole():
    def script(number, fields):
        said = {"error": {"message": "stream_options is not supported"}}
        return (400, {}, said) if fields["stream"] else None

    with FaultServer(script) as server:
        backend = server.backend()
        backend.stream()
        responses = respond(backend, generate_requests(3))
        assert sum(fields["stream"] for fields in server.requests) == 1
    assert [response.text for response in responses] == ["1 words", "2 words", "3 words"]


def test_texts_that_are_written_at_once_are_not_mixed():
    both = threading.Barrier(2)

    def body(word):
        yield f"data: {json.dumps(part(content=word))}\n\n"
        both.wait(PATIENCE)
        yield stream(part(content=word, finish_reason="stop"), WHOLE[-1])

    def script(number, fields):
        word = fields["messages"][-1]["content"].split()[0]
        return (200, {}, body(word)) if number > PROBES else None

    with FaultServer(script) as server:
        backend = server.backend()
        backend.stream()
        asked = [
            GenerateRequest(conversation(word), 0, max_tokens=8) for word in ("Hello", "Goodbye")
        ]
        responses = respond(backend, asked)
    assert [response.text for response in responses] == ["HelloHello", "GoodbyeGoodbye"]


def test_a_busy_server_is_still_asked_to_stream():
    def script(number, fields):
        if number == PROBES + 1:
            return 429, {}, {"error": {"message": "slow down"}}
        return (200, {}, stream(*WHOLE)) if number > PROBES else None

    with FaultServer(script) as server:
        backend = server.backend()
        backend.stream()
        (response,) = respond(backend, generate_requests(1))
        assert [fields["stream"] for fields in server.requests[PROBES:]] == [True, True]
    assert response.text == "Hello there"


@pytest.mark.parametrize(
    "body",
    [
        stream(*WHOLE[:4]),  # the connection was cut
        stream({"error": {"message": "upstream died", "code": 502}}),
        stream([1]),
        stream({"choices": [3]}),
        stream(end='{"choices": ['),
        "data: \n\n",
    ],
)
def test_broken_streams_are_tried_again(body):
    assert_tried_again(body)


def test_log_probabilities_of_a_stream_are_those_of_its_tokens():
    def at(letter):
        return [{"token": letter, "top_logprobs": [{"token": letter, "logprob": -0.5}]}]

    chat = [
        {"choices": [{"delta": {"content": text}, "logprobs": {"content": at(text)}}]}
        for text in "AB"
    ]
    text = [
        {"choices": [{"text": text, "logprobs": {"top_logprobs": [{text: -0.5}]}}]} for text in "AB"
    ]
    for events, dialect in ((chat, "chat"), (text, "plain")):
        (choice,) = parse_body(decode_body(stream(*events)), dialect).choices
        assert choice.content == "AB"
        assert choice.first_token == {"A": -0.5}


@pytest.mark.parametrize("impossible", [None, -math.inf])
def test_a_token_that_cannot_come_has_no_probability(impossible):
    top = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": impossible}]
    choice = {"message": {"content": "Yes"}, "finish_reason": "stop"}
    choice["logprobs"] = {"content": [{"token": "Yes", "top_logprobs": top}]}
    with FaultServer(lambda number, fields: (200, {}, {"choices": [choice]})) as server:
        request = LoglikelihoodRequest(conversation("?"), ("Yes", "No"))
        (response,) = respond(server.backend(), [request])
    assert response.logprobs == (pytest.approx(-0.1), -math.inf)


@pytest.mark.parametrize("message", [{"message": None}, {}])
def test_a_filtered_choice_may_have_no_message(message):
    body = {"choices": [{"finish_reason": "content_filter", **message}]}
    with FaultServer(after_probes(200, {}, body)) as server:
        (response,) = respond(server.backend(), generate_requests(1))
    assert response.finish_reason == "filtered"


def test_an_answer_taken_for_reasoning_is_empty_and_says_why():
    message = {"content": None, "reasoning_content": "I am a model."}
    body = {"choices": [{"finish_reason": "stop", "message": message}]}
    with FaultServer(after_probes(200, {}, body)) as server:
        (response,) = respond(server.backend(), generate_requests(1))
    assert (response.text, response.reasoning) == ("", "I am a model.")
    assert "took all that the model wrote for reasoning" in response.reason
