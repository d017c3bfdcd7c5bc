"""The win rate at equal length: what a judge that only likes long answers leaves of a model."""

import math
import random

import numpy as np
import pytest

from cai.evaluate.intervals import clustered_share
from cai.evaluate.length_control import PRIOR, fit, length_controlled


def names(n):
    return [str(i) for i in range(n)]


def simulated(advantage, by_length, n=2_000, mean_difference=40):
    rng = random.Random(f"{advantage} {by_length}")
    longer = [rng.gauss(mean_difference, 40) for _ in range(n)]
    odds = [advantage + by_length * math.tanh(x / 40) for x in longer]
    return [float(rng.random() < 1 / (1 + math.exp(-o))) for o in odds], longer


def test_a_model_that_only_writes_more_is_no_better():
    wins, longer = simulated(advantage=0, by_length=2)
    raw, controlled = (
        clustered_share(wins, names(2_000)),
        length_controlled(wins, longer, names(2_000)),
    )
    assert raw.low > 0.65
    assert controlled.rate.low < 0.5 < controlled.rate.high
    assert controlled.coefficient == pytest.approx(2, abs=0.3)


def test_a_better_model_stays_better():
    wins, longer = simulated(advantage=1, by_length=0)
    controlled = length_controlled(wins, longer, names(2_000))
    assert controlled.rate.low < 1 / (1 + math.exp(-1)) < controlled.rate.high
    assert abs(controlled.coefficient) < 0.3


def test_the_fit_equals_a_slow_search():
    rng = random.Random(0)
    design = np.array([[1.0, rng.uniform(-1, 1)] for _ in range(30)])
    observed = np.array([rng.choice([0, 0.5, 1]) for _ in range(30)])

    def loss(a, b):
        p = 1 / (1 + np.exp(-(design @ [a, b])))
        cross_entropy = observed * np.log(p) + (1 - observed) * np.log(1 - p)
        return -cross_entropy.sum() + (b / PRIOR) ** 2 / 2

    (a, b), information = fit(design, observed)
    step = 1e-3
    around = [loss(a + i * step, b + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert min(around) == loss(a, b)
    curvature = (loss(a + step, b) - 2 * loss(a, b) + loss(a - step, b)) / step**2
    assert information[0, 0] == pytest.approx(curvature, rel=1e-3)


def test_without_a_difference_in_length_it_is_the_raw_rate():
    controlled = length_controlled([1.0] * 30 + [0.0] * 10, [5.0] * 40, names(40))
    assert controlled.rate.value == pytest.approx(0.75)
    assert controlled.coefficient == 0
    same = length_controlled([1.0] * 30 + [0.0] * 10, [0.0] * 40, names(40))
    assert same.rate.value == pytest.approx(0.75)
    wald = math.sqrt(1 / 30 + 1 / 10)  # standard error of the log-odds
    expected = 1 / (1 + math.exp(-(math.log(3) - 2 * wald)))
    assert same.rate.low == pytest.approx(expected, abs=0.02)


def test_the_unit_of_length_does_not_matter():
    wins, longer = simulated(advantage=0.4, by_length=1, n=200)
    in_words = length_controlled(wins, longer, names(200)).rate
    in_characters = length_controlled(wins, [6 * x for x in longer], names(200)).rate
    assert in_words == pytest.approx(in_characters)


def test_where_the_longer_answer_always_wins_the_coefficient_is_finite():
    longer = [float(x) for x in (-9, -7, -4, -2, 2, 3, 5, 8, 9)]
    controlled = length_controlled([float(x > 0) for x in longer], longer, names(9))
    assert 2 < controlled.coefficient < 20
    assert controlled.rate.low < 0.5 < controlled.rate.high


@pytest.mark.parametrize("wins", [[1.0] * 9, [0.0] * 9])
def test_it_is_unknown_where_a_model_always_wins(wins):
    assert length_controlled(wins, list(range(9)), names(9)) is None


def test_it_is_unknown_for_a_single_conversation():
    assert length_controlled([1.0, 0.0], [1, 2], ["a", "a"]) is None


def test_only_ties_leave_an_interval():
    rate = length_controlled([0.5] * 50, [float(i % 3) for i in range(50)], names(50)).rate
    assert rate.value == pytest.approx(0.5)
    assert rate.low < 0.49
