"""Requests for tests of backends, and their responses in order."""

from fault_server import FaultServer

from cai.backends.protocol import GenerateRequest
from cai.records import Message


def conversation(text):
    return (Message(role="user", content=text),)


def generate_requests(count):
    """Requests that a ``FaultServer`` answers with "1 words", "2 words" ..."""
    return [GenerateRequest(conversation("word " * (i + 1)), seed=i) for i in range(count)]


def respond(backend, requests):
    """The responses, in the order of the requests."""
    responses = dict(backend.respond(requests))
    return [responses[i] for i in range(len(requests))]


def assert_tried_again(body):
    """A request that gets a useless body twice is sent a third time."""
    bodies = [(200, {}, body)] * 2

    def script(number, fields):
        return bodies.pop() if bodies and "word " in str(fields["messages"]) else None

    with FaultServer(script) as server:
        (response,) = respond(server.backend(), generate_requests(1))
    assert response.text == "1 words" and not bodies
