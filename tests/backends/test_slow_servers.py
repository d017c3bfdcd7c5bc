"""Servers that are slow, busy or limited, in virtual time."""

import asyncio

import pytest

pytest.importorskip("openai")

import itertools

from request_helpers import generate_requests
from virtual_time import SlowServer, endpoint, run

from cai.backends.dispatch import dispatch
from cai.backends.rate_limit import Pacer
from cai.config.servers import Server


async def all_responses(endpoints, count):
    outcomes = await asyncio.gather(*(dispatch(endpoints, r) for r in generate_requests(count)))
    return [outcome.response.finish_reason for outcome in outcomes]


def test_single_slot_server_at_25_seconds_an_answer_loses_nothing():
    async def work():
        server = SlowServer(slots=1, seconds=25.0)
        reasons = await all_responses([endpoint(server)], 300)
        return reasons, server.received, asyncio.get_running_loop().time()

    reasons, received, seconds = run(work())
    assert reasons == ["stop"] * 300
    assert received < 320  # few are sent twice
    assert seconds < 300 * 25 * 1.1


@pytest.mark.parametrize("seconds", [60.0, 110.0, 250.0])
def test_time_outs_of_a_slower_server_cost_no_request(seconds):
    async def work():
        return await all_responses([endpoint(SlowServer(slots=1, seconds=seconds))], 60)

    assert run(work()) == ["stop"] * 60


def test_parallel_server_gets_all_that_it_can_take():
    async def work():
        server = SlowServer(slots=64, seconds=100.0)
        await all_responses([endpoint(server)], 600)
        return server.most

    assert run(work()) == 64


def test_hanging_server_is_given_up():
    async def work():
        return await all_responses([endpoint(SlowServer(slots=1, seconds=1e9))], 3)

    assert run(work()) == ["failed"] * 3


def busy(headers):
    return lambda number: (429, headers, {"error": {"message": "slow down"}})


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "0.001"}])
def test_a_busy_server_is_asked_ever_more_rarely(headers):
    async def work():
        server = SlowServer(answer=busy(headers))
        (reason,) = await all_responses([endpoint(server)], 1)
        return reason, server.received

    reason, received = run(work())
    assert reason == "failed"
    assert 20 <= received <= 60  # in twenty minutes


def test_a_busy_server_is_not_asked_before_it_wants():
    times = []

    def answer(number):
        times.append(asyncio.get_running_loop().time())
        return (429, {"Retry-After": "30"}, {}) if number <= 3 else None

    async def work():
        return await all_responses([endpoint(SlowServer(answer=answer))], 1)

    assert run(work()) == ["stop"]
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [30, 30, 30]


def test_requests_and_tokens_per_minute_are_kept():
    async def seconds(**limits):
        server = SlowServer(slots=64, seconds=1.0)
        one = endpoint(server, server=Server(**limits))
        one.state.pacer = Pacer(one._server.requests_per_minute, one._server.tokens_per_minute)
        await all_responses([one], 60)
        return asyncio.get_running_loop().time()

    assert 59 <= run(seconds(requests_per_minute=60)) <= 62
    # 150 tokens a request, of which more are expected while it runs
    assert 8.5 * 60 <= run(seconds(tokens_per_minute=1000)) <= 17 * 60
    assert run(seconds()) < 20
