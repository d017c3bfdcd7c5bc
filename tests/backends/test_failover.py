"""Several servers of one model, of which one is ill."""

import asyncio
import itertools
import socket

import pytest

pytest.importorskip("openai")

from fault_server import FAST, RESET, FaultServer
from request_helpers import generate_requests, respond
from virtual_time import SlowServer, endpoint, run

from cai.backends.dispatch import dispatch
from cai.backends.server import ServerBackend, ServerSettings
from cai.errors import InputError, LimitReached

COUNT = 300


def backend_of(*urls):
    return ServerBackend(f"{','.join(urls)}#m", settings=ServerSettings(**FAST))


def expected():
    return [f"{i + 1} words" for i in range(COUNT)]


def gone():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@pytest.mark.parametrize("position", [0, 1])
def test_one_of_two_servers_is_absent(position):
    with FaultServer() as server:
        urls = [server.url]
        urls.insert(position, gone())
        backend = backend_of(*urls)
        responses = respond(backend, generate_requests(COUNT))
    assert [r.text for r in responses] == expected()
    (note,) = backend.notes
    assert note.startswith(f"{urls[position]} is left out: does not answer")


@pytest.mark.parametrize("fault", [(500, {}, "ill"), (503, {}, ""), (429, {}, ""), RESET])
@pytest.mark.parametrize("since", [0, 20])
def test_one_of_two_servers_fails(fault, since):
    def script(number, fields):
        return fault if number > since else None

    with FaultServer(script) as ill, FaultServer() as well:
        backend = backend_of(ill.url, well.url)
        backend.settings = ServerSettings(**FAST | {"patience": 0.2})
        responses = respond(backend, generate_requests(COUNT))
    assert [r.text for r in responses] == expected()
    if since == 0 or fault[0] != 429:
        assert any(ill.url in note for note in backend.notes)
    assert len(ill.requests) < COUNT / 2


def test_one_of_two_servers_refuses_a_parameter():
    def script(number, fields):
        return (400, {}, "Unknown parameter: 'seed'") if "seed" in fields else None

    with FaultServer(script) as strict, FaultServer() as other:
        backend = backend_of(strict.url, other.url)
        responses = respond(backend, generate_requests(COUNT))
    assert [r.text for r in responses] == expected()
    assert all("seed" not in fields for fields in strict.requests[20:])
    assert all("seed" in fields for fields in other.requests[10:])


def test_all_servers_are_absent():
    with pytest.raises(LimitReached, match="does not answer"):
        respond(backend_of(gone(), gone()), generate_requests(3))


def test_servers_with_different_models_are_refused_at_the_start():
    def script(number, fields):
        return 200, {}, two.body(fields, number) | {"model": "other"}

    with FaultServer() as one, FaultServer(script) as two:
        with pytest.raises(InputError, match="are different models"):
            respond(backend_of(one.url, two.url), generate_requests(3))
        assert len(one.requests) < 10


def test_server_that_recovers_is_asked_again():
    async def work():
        ill = SlowServer(
            seconds=1.0, slots=8, answer=lambda number: (500, {}, {}) if number < 5 else None
        )
        well = SlowServer(seconds=1.0, slots=2)
        both = [endpoint(ill, "http://ill/v1"), endpoint(well, "http://well/v1")]
        waiting, reasons = iter(generate_requests(200)), []

        async def send_some():
            for request in waiting:
                outcome = await dispatch(both, request)
                reasons.append(outcome.response.finish_reason)

        await asyncio.gather(*(send_some() for _ in range(8)))
        return reasons, ill.received

    reasons, received = run(work())
    assert reasons == ["stop"] * 200
    assert received > 50


def test_refusals_of_prompts_are_no_faults_of_the_server():
    body = {"error": {"message": "no", "code": "invalid_prompt"}}
    odd = {"error": {"message": "we will not", "code": "nope"}}
    turn = itertools.cycle([body, odd])

    def script(number, fields):
        return (400, {}, next(turn)) if "word" in fields["messages"][-1]["content"] else None

    with FaultServer(script) as server:
        responses = respond(server.backend(), generate_requests(100))
    assert {r.finish_reason for r in responses} == {"filtered", "failed"}
