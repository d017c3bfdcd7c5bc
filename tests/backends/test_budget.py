"""A budget stops the work, keeps what was paid for, and is not spent twice."""

import pytest

from cai.backends.budget import Budget, Usage, parse_budget
from cai.backends.protocol import GenerateRequest
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.errors import InputError, LimitReached
from cai.records import Message


def requests(n):
    return [GenerateRequest((Message(role="user", content=f"word {i}"),), seed=i) for i in range(n)]


def run(path, wanted, budget=None):
    """The responses, and how many requests were sent for them."""
    with ResponseCache(path, budget) as cache:
        model = cache.cached_model(ScriptedBackend(lambda messages, seed: f"reply {seed}"), "s")
        responses = model(wanted)
        return responses, cache.usage["s"].requests


def test_request_budget_is_kept_and_responses_are_stored(tmp_path):
    path = tmp_path / "responses.sqlite"
    # the second time, with the same budget, not a single request more is sent
    for _ in range(2):
        with pytest.raises(LimitReached, match=r"requests 30 of 30"):
            run(path, requests(100), Budget(requests=30))
    with ResponseCache(path) as cache:
        assert cache.totals()["s"].requests == 30
    responses, sent = run(path, requests(100), Budget(requests=100))
    assert sent == 70
    assert [r.text for r in responses] == [f"reply {i}" for i in range(100)]
    # what is in the cache costs nothing
    _, sent = run(path, requests(100), Budget(requests=1))
    assert sent == 0


def test_token_and_money_budgets(tmp_path):
    with pytest.raises(LimitReached, match=r"tokens"):
        run(tmp_path / "a.sqlite", requests(100), Budget(tokens=50))
    budget = parse_budget("money=0.0001", "1/10")
    with pytest.raises(LimitReached, match=r"money 0.0001"):
        run(tmp_path / "b.sqlite", requests(100), budget)
    assert budget.cost(1_000_000, 100_000) == pytest.approx(2.0)


def test_budget_that_just_suffices_is_no_error(tmp_path):
    responses, sent = run(tmp_path / "a.sqlite", requests(30), Budget(requests=30))
    assert len(responses) == sent == 30


@pytest.mark.parametrize(
    ("limits", "prices", "expected"),
    [
        ("call=5", "", "--budget call=5: must look like"),
        ("requests=many", "", "--budget requests=many: must look like"),
        ("requests=-1", "", "--budget requests=-1: must look like"),
        ("tokens=nan", "", "--budget tokens=nan: must look like"),
        ("money=5", "", "--budget money: needs --price"),
        ("money=5", "1", "--price 1: must look like"),
    ],
)
def test_budget_options_that_cannot_be_parsed(limits, prices, expected):
    with pytest.raises(InputError, match=expected):
        parse_budget(limits, prices)


def test_no_budget_is_no_limit():
    assert parse_budget("", "").exceeded(Usage(10**9, 0, 10**12, 10**12)) == ""
    assert parse_budget("requests=2e3, tokens=5", "") == Budget(requests=2000, tokens=5)
