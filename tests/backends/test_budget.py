"""A budget stops the work cleanly, keeps what was paid for, and is not spent twice."""

import pytest

from cai.backends.budget import Budget, parse_budget
from cai.backends.protocol import GenerateRequest
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.errors import InputError, LimitReached
from cai.records import Message


def requests(n):
    return [GenerateRequest((Message(role="user", content=f"word {i}"),), seed=i) for i in range(n)]


def model(path, wanted, budget=None):
    with ResponseCache(path, budget) as cache:
        answers = cache.cached_model(ScriptedBackend(lambda messages, seed: f"said {seed}"), "s")(
            wanted
        )
        return answers, cache.usage["s"].requests


def test_the_limit_is_kept_and_nothing_paid_is_lost(tmp_path):
    path = tmp_path / "responses.sqlite"
    with pytest.raises(LimitReached, match=r"requests 30 of 30"):
        model(path, requests(100), Budget(requests=30))
    # with the same budget not a single call more; with a larger one only the rest
    with pytest.raises(LimitReached):
        model(path, requests(100), Budget(requests=30))
    with ResponseCache(path) as cache:
        assert cache.totals()["s"].requests == 30
    answers, made = model(path, requests(100), Budget(requests=100))
    assert made == 70 and [a.text for a in answers] == [f"said {i}" for i in range(100)]
    # what is remembered costs nothing
    assert model(path, requests(100), Budget(requests=1))[1] == 0


def test_tokens_and_money(tmp_path):
    with pytest.raises(LimitReached, match=r"tokens"):
        model(tmp_path / "a.sqlite", requests(100), Budget(tokens=50))
    budget = parse_budget("money=0.0001", "1/10")
    with pytest.raises(LimitReached, match=r"money 0.0001"):
        model(tmp_path / "b.sqlite", requests(100), budget)
    assert budget.cost(1_000_000, 100_000) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("limits", "prices", "says"),
    [
        ("call=5", "", "--budget call=5: must look like"),
        ("calls=many", "", "--budget calls=many: must look like"),
        ("calls=-1", "", "must look like"),
        ("money=5", "", "needs --price"),
        ("money=5", "1", "--price 1: must look like"),
    ],
)
def test_what_cannot_be_read_is_named(limits, prices, says):
    with pytest.raises(InputError, match=says):
        parse_budget(limits, prices)


def test_no_budget_is_no_limit():
    assert parse_budget("", "").used_up(10**9, 10**12, 10**12) == ""
    assert parse_budget("requests=2e3, tokens=5", "") == Budget(requests=2000, tokens=5)
