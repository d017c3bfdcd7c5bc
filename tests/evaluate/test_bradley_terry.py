"""Bradley-Terry strengths and Elo ratings, against closed forms and a slow search."""

import math
import random
from itertools import combinations

import numpy as np
import pytest

from cai.evaluate.bradley_terry import (
    ELO,
    Difference,
    Outcome,
    _groups,
    connected,
    rate_models,
    strengths,
    win_matrix,
)


def games(first, second, wins, losses, ties=0):
    results = [1.0] * wins + [0.0] * losses + [0.5] * ties
    return [Outcome(first, second, win, f"{first}{second}{i}") for i, win in enumerate(results)]


def test_two_models_have_the_log_odds():
    ratings = rate_models(games("a", "b", 30, 10, ties=4))
    difference = ratings.elo["a"].value - ratings.elo["b"].value
    assert difference == pytest.approx(ELO * math.log(32 / 12))
    assert ratings.elo["a"].value == pytest.approx(-ratings.elo["b"].value)
    assert list(ratings.elo) == ["a", "b"]


def test_400_points_are_odds_of_ten_to_one():
    ratings = rate_models(games("a", "b", 100, 10))
    assert ratings.elo["a"].value - ratings.elo["b"].value == pytest.approx(400)


@pytest.mark.parametrize("seed", range(5))
def test_strengths_equal_a_slow_search(seed):
    rng = random.Random(seed)
    wins = np.array([[0.0 if i == j else rng.randint(1, 30) for j in range(5)] for i in range(5)])
    found = np.exp(strengths(wins))
    slow = np.ones(5)  # minorization and maximization, Hunter 2004
    for _ in range(5_000):
        total = wins + wins.T
        slow = wins.sum(1) / (total / (slow[:, None] + slow[None, :])).sum(1)
        slow /= np.exp(np.log(slow).mean())
    assert found == pytest.approx(slow, rel=1e-6)


def test_strengths_of_lopsided_games_are_found():
    wins = np.array([[0, 1e6, 0], [1e-3, 0, 1e6], [0, 1e-3, 0]])
    gap = math.log(1e9)
    assert strengths(wins) == pytest.approx([gap, 0, -gap], abs=1e-6)


def test_strengths_of_several_tables_at_once_are_those_of_each():
    rng = random.Random(0)
    tables = np.array([[[0, rng.randint(1, 9)], [rng.randint(1, 9), 0]] for _ in range(6)], float)
    assert strengths(tables) == pytest.approx(np.array([strengths(table) for table in tables]))


def test_without_a_chain_of_wins_there_are_no_strengths():
    with pytest.raises(ValueError, match="never"):
        strengths(np.array([[0.0, 3.0], [0.0, 0.0]]))
    assert connected(np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])).all()


def test_a_model_that_never_loses_is_not_rated():
    ratings = rate_models(games("a", "b", 5, 5) + games("c", "a", 9, 0) + games("d", "b", 0, 9))
    assert list(ratings.elo) == ["a", "b"]
    assert ratings.unrated == {"c": "never loses", "d": "never wins"}
    alone = rate_models(games("a", "b", 5, 0))
    assert (alone.elo, alone.unrated) == ({}, {"a": "never loses", "b": "never wins"})
    assert rate_models([]).unrated == {}


def test_models_that_are_not_compared_are_not_joined():
    ratings = rate_models(games("a", "b", 5, 5) + games("b", "e", 3, 3) + games("c", "d", 9, 3))
    assert list(ratings.elo) == ["a", "b", "e"]
    assert "do not join it" in ratings.unrated["c"]


def test_an_end_that_many_draws_do_not_know_is_left_open():
    ratings = rate_models(games("a", "b", 30, 1))
    assert ratings.undefined > 300
    assert ratings.elo["a"][1:] == (None, None)
    (difference,) = ratings.differences
    assert (difference.low, difference.significant) == (None, False)


def test_only_ties_are_no_difference():
    ratings = rate_models(games("a", "b", 0, 0, ties=9))
    assert ratings.elo["a"] == (0, 0, 0)
    assert ratings.groups == [["a", "b"]]


def test_groups_are_the_models_that_do_not_differ():
    outcomes = [
        *games("best", "good", 55, 45),
        *games("best", "fair", 66, 34),
        *games("good", "fair", 53, 47),
        *games("fair", "poor", 93, 7),
        *games("good", "poor", 95, 5),
    ]
    ratings = rate_models(outcomes)
    assert list(ratings.elo) == ["best", "good", "fair", "poor"]
    assert ratings.groups == [["best", "good"], ["good", "fair"], ["poor"]]
    significant = {(d.first, d.second) for d in ratings.differences if d.significant}
    assert ("best", "fair") in significant
    assert not {("best", "good"), ("good", "fair")} & significant


@pytest.mark.parametrize(("models", "quantile"), [("ab", 1.96), ("abcdef", 4.03 / math.sqrt(2))])
def test_intervals_of_all_pairs_together_are_those_of_tukey(models, quantile):
    outcomes = [o for pair in combinations(models, 2) for o in games(*pair, 100, 100)]
    difference = rate_models(outcomes).differences[0]
    error = ELO * math.sqrt(8 / (len(models) * 200))  # of a balanced tournament of equals
    assert difference.high - difference.value == pytest.approx(quantile * error, rel=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_groups_equal_a_slow_search(seed):
    rng, names = random.Random(seed), list("abcdef")
    pairs = list(combinations(names, 2))
    differ = {pair: rng.random() < 0.5 for pair in pairs}
    differences = [Difference(*pair, 1.0, None, None, differ[pair]) for pair in pairs]
    alike = [
        set(some)
        for size in range(1, 7)
        for some in combinations(names, size)
        if not any(differ[pair] for pair in combinations(some, 2))
    ]
    largest = [group for group in alike if not any(group < other for other in alike)]
    assert _groups(names, differences) == sorted(map(sorted, largest))


def test_ratings_depend_on_nothing_but_the_outcomes_and_the_seed():
    outcomes = games("a", "b", 12, 9) + games("b", "c", 8, 8)
    shuffled = random.Random(1).sample(outcomes, len(outcomes))
    first, second = rate_models(outcomes, seed=3), rate_models(shuffled, seed=3)
    assert {k: pytest.approx(v) for k, v in first.elo.items()} == second.elo
    assert rate_models(outcomes, seed=4).elo["a"].low != first.elo["a"].low


def test_wins_are_counted_from_both_sides():
    wins = win_matrix([*games("a", "b", 2, 1, ties=1), *games("b", "a", 3, 0)], ["a", "b"])
    assert wins.tolist() == [[0, 2.5], [4.5, 0]]
