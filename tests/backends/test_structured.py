"""Servers that can hold a model to the verdicts are made to, in the way that they have."""

import json

import pytest
from fault_server import PROBES, FaultServer
from request_helpers import conversation, respond

from cai.backends.protocol import GenerateRequest

VOTE = GenerateRequest(conversation("A or B?"), 1, 1.0, 16, "The answer is: (", ("A", "B"))


def reply(text):
    return 200, {}, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}


def allowed(fields, way):
    """The answers that a server is told to choose from, if it knows the way."""
    if way == "json_schema" and "response_format" in fields:
        schema = fields["response_format"]["json_schema"]["schema"]
        return schema["properties"]["answer"]["enum"]
    if way == "structured_outputs" and way in fields:
        return fields[way]["choice"]
    return fields.get(way) if way == "guided_choice" else None


@pytest.mark.parametrize("way", ["structured_outputs", "guided_choice", "json_schema"])
def test_a_server_is_told_the_verdicts_in_its_own_way(way):
    def script(number, fields):
        choices = allowed(fields, way)
        if not choices:
            return None
        return reply(json.dumps({"answer": choices[1]}) if way == "json_schema" else choices[1])

    with FaultServer(script) as server:
        backend = server.backend()
        first, second = respond(backend, [VOTE]), respond(backend, [VOTE])
        asked = len(server.requests)
        last = server.requests[-1]
    assert first[0].text == second[0].text == "B"
    assert allowed(last, way) == ["A", "B"]
    assert asked <= PROBES + 3 + 3 + 2, "each way is tried once"


def test_a_server_that_ignores_or_refuses_them_is_asked_in_words():
    def script(number, fields):
        refused = "response_format" in fields or "guided_choice" in fields
        return (400, {}, "unknown field") if refused else None

    with FaultServer(script) as server:
        (response,) = respond(server.backend(), [VOTE])
        last = server.requests[-1]
    assert response.text == "3 words"
    assert not {"response_format", "guided_choice", "structured_outputs"} & set(last)
