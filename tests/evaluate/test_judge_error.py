"""Win rates corrected by the judge's error, against closed forms, and with a biased judge."""

import math
import random

import numpy as np
import pytest

from cai.evaluate.intervals import clustered_share
from cai.evaluate.judge_error import (
    Judged,
    fieller,
    power,
    prediction_powered,
    rogan_gladen,
)
from cai.evaluate.statistics import mean

TRUE_RATE = 0.4


def biased(seed, count=600, labels=100, hit=0.95, false_alarm=0.45):
    """A judge that likes the first model: it calls nearly half of its losses wins."""
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        gold = float(rng.random() < TRUE_RATE)
        judge = float(rng.random() < (hit if gold else false_alarm))
        pairs.append(Judged(judge, gold if i < labels else None, str(i)))
    return pairs


def inside(rate):
    return rate.low <= TRUE_RATE <= rate.high


def test_the_corrected_interval_holds_the_truth_where_the_raw_one_does_not():
    pairs = biased(seed=0)
    raw = clustered_share([p.judge for p in pairs], [p.cluster for p in pairs])
    powered, inverted = prediction_powered(pairs), rogan_gladen(pairs)
    assert raw.low > 0.5  # the wrong model is declared the better one
    assert inside(powered.rate) and inside(inverted.rate)
    assert powered.labeled == inverted.labeled == 100


def test_so_it_is_in_many_repetitions():
    sets = [biased(seed) for seed in range(200)]
    raw = [inside(clustered_share([p.judge for p in s], [p.cluster for p in s])) for s in sets]
    assert mean(raw) == 0
    assert mean([inside(prediction_powered(s).rate) for s in sets]) >= 0.93
    assert mean([inside(rogan_gladen(s).rate) for s in sets]) >= 0.93


def test_verdicts_of_a_good_judge_narrow_the_interval():
    pairs = biased(seed=1, hit=0.95, false_alarm=0.05)
    powered = prediction_powered(pairs)
    labeled = [p for p in pairs if p.gold is not None]
    alone = clustered_share([p.gold for p in labeled], [p.cluster for p in labeled])
    assert powered.weight > 0.6
    assert powered.rate.high - powered.rate.low < 0.75 * (alone.high - alone.low)


def test_verdicts_that_tell_nothing_are_not_used():
    pairs = biased(seed=2, hit=0.5, false_alarm=0.5)
    powered = prediction_powered(pairs)
    gold = [p.gold for p in pairs if p.gold is not None]
    assert powered.weight < 0.2
    assert powered.rate.value == pytest.approx(mean(gold), abs=0.03)
    assert rogan_gladen(pairs).rate.high - rogan_gladen(pairs).rate.low > 0.6


def test_prediction_powered_inference_by_hand():
    pairs = biased(seed=3)
    gold = [p.gold for p in pairs[:100]]
    judge, rest = [p.judge for p in pairs[:100]], [p.judge for p in pairs[100:]]
    powered = prediction_powered(pairs)
    weight = powered.weight
    covariance = mean([g * j for g, j in zip(gold, judge, strict=True)]) - mean(gold) * mean(judge)
    both = mean(judge + rest) * (1 - mean(judge + rest))
    assert weight == pytest.approx(covariance / (both * (1 + 100 / 500)))
    errors = [g - weight * j for g, j in zip(gold, judge, strict=True)]
    assert powered.rate.value == pytest.approx(weight * mean(rest) + mean(errors))
    variance = weight**2 * np.var(rest) / 500 + np.var(errors) / 100
    half = powered.rate.high - powered.rate.value
    assert half == pytest.approx(1.984 * math.sqrt(variance), rel=0.05)
    assert half > 1.984 * math.sqrt(variance)


def test_the_weight_is_the_best_one():
    pairs = biased(seed=3)
    gold, judge = (np.array([getattr(p, name) for p in pairs[:100]]) for name in ("gold", "judge"))
    rest = np.array([p.judge for p in pairs[100:]])
    best = power(gold, judge, rest)
    pooled = np.concatenate([judge, rest]).var()

    def variance(w):
        shared = np.cov(gold, judge, ddof=0)[0, 1]
        return w**2 * pooled / 500 + (gold.var() - 2 * w * shared + w**2 * pooled) / 100

    assert min(variance(best + d) for d in (-0.01, 0.0, 0.01)) == variance(best)


def test_rogan_and_gladens_formula():
    pairs = biased(seed=4)
    labeled = pairs[:100]
    sensitivity = mean([p.judge for p in labeled if p.gold == 1])
    specificity = 1 - mean([p.judge for p in labeled if p.gold == 0])
    share = mean([p.judge for p in pairs])
    inverted = rogan_gladen(pairs)
    assert inverted.sensitivity == pytest.approx(sensitivity)
    assert inverted.specificity == pytest.approx(specificity)
    expected = (share + specificity - 1) / (sensitivity + specificity - 1)
    assert inverted.rate.value == pytest.approx(expected)


def test_rogan_and_gladens_interval_is_as_wide_as_its_labels_say():
    pairs = biased(seed=4)
    inverted = rogan_gladen(pairs)
    share = mean([p.judge for p in pairs])
    wins = sum(p.gold for p in pairs[:100])
    hit, miss, rate = inverted.sensitivity, 1 - inverted.specificity, inverted.rate.value
    variance = (  # by the delta method
        share * (1 - share) / 600
        + rate**2 * hit * (1 - hit) / wins
        + (1 - rate) ** 2 * miss * (1 - miss) / (100 - wins)
    ) / (hit - miss) ** 2
    half = (inverted.rate.high - inverted.rate.low) / 2
    assert half == pytest.approx(1.984 * math.sqrt(variance), rel=0.15)


def test_labels_that_hold_more_wins_mislead_only_prediction_powered_inference():
    rng = random.Random(5)
    pairs = biased(seed=5, count=3_000, labels=3_000)
    wins = [p for p in pairs if p.gold == 1]
    labeled = {p.cluster for p in rng.sample(wins, 200)}
    labeled |= {p.cluster for p in rng.sample([p for p in pairs if p.gold == 0], 100)}
    pairs = [p if p.cluster in labeled else p._replace(gold=None) for p in pairs]
    assert inside(rogan_gladen(pairs).rate)
    assert not inside(prediction_powered(pairs).rate)


def test_fiellers_interval_inverts_the_test():
    numerator, denominator = 0.3, 0.5
    covariance = np.array([[0.01, 0.002], [0.002, 0.02]])
    low, high = fieller(numerator, denominator, covariance * 1.96**2)
    for end in (low, high):
        variance = covariance[0, 0] - 2 * end * covariance[0, 1] + end**2 * covariance[1, 1]
        assert abs(numerator - end * denominator) == pytest.approx(1.96 * math.sqrt(variance))
    assert fieller(0.3, 0.1, covariance * 1.96**2) == (-math.inf, math.inf)


def test_without_enough_labels_nothing_is_corrected():
    pairs = biased(seed=6, labels=9)
    assert prediction_powered(pairs) is None and rogan_gladen(pairs) is None
    one = [p._replace(cluster="a") for p in biased(seed=6)]
    assert prediction_powered(one) is None
    alike = [p._replace(gold=1.0 if p.gold is not None else None) for p in biased(seed=6)]
    assert rogan_gladen(alike) is None
    reverse = [p._replace(judge=1 - p.judge) for p in biased(seed=6)]
    assert rogan_gladen(reverse) is None


def test_a_judge_without_a_mistake_on_few_labels_is_not_perfect():
    pairs = biased(seed=7, count=10_000, labels=20, hit=1.0, false_alarm=0.0)
    for corrected in (prediction_powered(pairs), rogan_gladen(pairs)):
        assert corrected.rate.high - corrected.rate.low > 0.1


def test_labels_of_all_comparisons_are_the_win_rate():
    pairs = biased(seed=8, count=100, labels=100)
    powered = prediction_powered(pairs)
    alone = clustered_share([p.gold for p in pairs], [p.cluster for p in pairs])
    assert powered.weight == 0
    assert powered.rate[:3] == pytest.approx(alone[:3], abs=0.01)
