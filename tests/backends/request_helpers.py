"""Requests for tests of backends, and their responses in order."""

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
