"""Of many simulated evaluations, the share whose 95 % interval holds the truth."""

import math
import random
from collections import defaultdict

import pytest

from cai.evaluate.bootstrap import bootstrap
from cai.evaluate.bradley_terry import ELO, Outcome, rate_models
from cai.evaluate.intervals import clustered_mean, clustered_share, paired_difference
from cai.evaluate.judge_error import Judged, prediction_powered, rogan_gladen
from cai.evaluate.kappa import cohens_kappa
from cai.evaluate.length_control import length_controlled
from cai.evaluate.pairwise import Duel, corrected
from cai.evaluate.statistics import mean


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean_sigmoid(center, spread):
    """The mean of sigmoid(center + spread z) over normal z, by the trapezoidal rule."""
    grid = [-8 + i / 50 for i in range(801)]
    weights = [math.exp(-z * z / 2) for z in grid]
    values = [w * sigmoid(center + spread * z) for w, z in zip(weights, grid, strict=True)]
    return sum(values) / sum(weights)


def conversations(rng, count, sizes=(1, 2, 3, 4)):
    """A name for each observation and the effect that its conversation has on all of its own."""
    rows = []
    for i in range(count):
        effect = rng.gauss(0, 1)
        rows += [(str(i), effect)] * rng.choice(sizes)
    return rows


def a_mean(rng):
    rows = conversations(rng, 40)
    values = [3 + effect + rng.gauss(0, 1) for _, effect in rows]
    return inside(clustered_mean(values, [name for name, _ in rows]), 3)


def a_paired_difference(rng):
    first, second = defaultdict(list), defaultdict(list)
    for name, effect in conversations(rng, 40):
        first[name].append(2 * effect + rng.gauss(0.5, 1))
        second[name].append(effect + rng.gauss(0, 1))
    return inside(paired_difference(first, second), 0.5)


def a_difference_of_shares(rng):
    """One prompt in ten is right for one of the models only."""
    first, second = {}, {}
    for i in range(50):
        first[str(i)] = [float(rng.random() < 0.5)]
        second[str(i)] = [max(first[str(i)][0], float(rng.random() < 0.2))]
    return inside(paired_difference(second, first), 0.1)


def a_kappa(rng):
    """Two judges who each are wrong about one pair in twenty."""
    truth = [float(rng.random() < 0.5) for _ in range(30)]
    first, second = ([t if rng.random() < 0.95 else 1 - t for t in truth] for _ in range(2))
    found = cohens_kappa(first, second, list(map(str, range(30))))
    return found["low"] <= 2 * (0.95**2 + 0.05**2) - 1 <= found["high"]


def a_bootstrapped_mean(rng):
    rows = conversations(rng, 60)
    values = [3 + effect + rng.gauss(0, 1) for _, effect in rows]
    names = [name for name, _ in rows]
    return inside(bootstrap(values, names, mean, seed=rng.randrange(10**6), draws=200), 3)


def a_win_rate(rng, center=0.8, ties=0.1, count=60, sizes=(1, 2, 3, 4)):
    rows = conversations(rng, count, sizes)
    wins = [
        0.5 if rng.random() < ties else float(rng.random() < sigmoid(center + effect))
        for _, effect in rows
    ]
    truth = ties / 2 + (1 - ties) * mean_sigmoid(center, 1)
    return inside(clustered_share(wins, [name for name, _ in rows]), truth)


def a_win_rate_mostly_of_ties(rng):
    return a_win_rate(rng, ties=0.7)


def a_win_rate_of_few_conversations(rng):
    return a_win_rate(rng, count=12)


def a_win_rate_with_a_few_large_conversations(rng):
    """They are one in ten, and have most of the comparisons."""
    return a_win_rate(rng, count=40, sizes=(1,) * 9 + (30,))


def a_high_win_rate(rng):
    wins = [float(rng.random() < 0.9) for _ in range(100)]
    return inside(clustered_share(wins, list(map(str, range(100)))), 0.9)


STRENGTHS = {"weak": -0.6, "middle": 0.0, "strong": 0.6}


def contest(rng, count=80):
    """All pairs on each prompt, correlated: who is better has the larger strength and noise."""
    outcomes = []
    for i in range(count):
        noise = {m: -math.log(-math.log(rng.random())) + s for m, s in STRENGTHS.items()}
        for first, second in (("weak", "middle"), ("middle", "strong"), ("weak", "strong")):
            outcomes.append(Outcome(first, second, float(noise[first] > noise[second]), str(i)))
    return rate_models(outcomes, seed=rng.randrange(10**6), draws=300)


def an_elo_rating(rng):
    return inside(contest(rng).elo["strong"], ELO * 0.6)


def all_elo_differences_at_once(rng):
    return all(
        inside(d, ELO * (STRENGTHS[d.first] - STRENGTHS[d.second]))
        for d in contest(rng).differences
    )


def a_length_controlled_win_rate(rng):
    rows = conversations(rng, 150, sizes=(1, 2))
    longer = [rng.gauss(30, 40) for _ in rows]
    # the spread of the difference, by which it is divided, is 40
    wins = [float(rng.random() < sigmoid(0.3 + 1.5 * math.tanh(x / 40))) for x in longer]
    return inside(length_controlled(wins, longer, [name for name, _ in rows]).rate, sigmoid(0.3))


def judged_pairs(rng, count=500, labels=100):
    """The model wins 40 %; the judge says so of 90 % of its wins, and of 45 % of its losses."""
    pairs = []
    for i in range(count):
        gold = float(rng.random() < 0.4)
        judge = float(rng.random() < (0.9 if gold else 0.45))
        pairs.append(Judged(judge, gold if i < labels else None, str(i)))
    return pairs


def judged_conversations(rng):
    """The model wins half; a fourth of the conversations have labels."""
    pairs = []
    for name, effect in conversations(rng, 240):
        gold = float(rng.random() < sigmoid(effect))
        judge = 0.5 if rng.random() < 0.1 else float(rng.random() < (0.8 if gold else 0.3))
        pairs.append(Judged(judge, gold if int(name) < 60 else None, name))
    return pairs


def a_prediction_powered_win_rate(rng):
    return inside(prediction_powered(judged_pairs(rng)).rate, 0.4)


def a_rogan_gladen_win_rate(rng):
    return inside(rogan_gladen(judged_pairs(rng)).rate, 0.4)


def a_prediction_powered_win_rate_of_conversations(rng):
    return inside(prediction_powered(judged_conversations(rng)).rate, 0.5)


def a_rogan_gladen_win_rate_of_conversations(rng):
    return inside(rogan_gladen(judged_conversations(rng)).rate, 0.5)


def a_corrected_win_rate_with_equal_answers(rng):
    """A fourth of the answers are equal, of which there are no labels."""
    duels = [
        Duel("mine", "base", 0.5, pair.cluster, equal=True)
        if rng.random() < 0.25
        else Duel("mine", "base", pair.judge, pair.cluster, gold=pair.gold)
        for pair in judged_pairs(rng)
    ]
    powered = corrected(duels)["prediction_powered"]
    return powered["low"] <= 0.25 / 2 + 0.75 * 0.4 <= powered["high"]


def inside(interval, truth):
    return interval.low <= truth <= interval.high


SIMULATIONS = [
    a_mean,
    a_paired_difference,
    a_difference_of_shares,
    a_kappa,
    a_bootstrapped_mean,
    a_win_rate,
    a_win_rate_mostly_of_ties,
    a_win_rate_of_few_conversations,
    a_win_rate_with_a_few_large_conversations,
    a_high_win_rate,
    an_elo_rating,
    all_elo_differences_at_once,
    a_length_controlled_win_rate,
    a_prediction_powered_win_rate,
    a_prediction_powered_win_rate_of_conversations,
    a_corrected_win_rate_with_equal_answers,
    a_rogan_gladen_win_rate,
    a_rogan_gladen_win_rate_of_conversations,
]


def coverage(simulation, repetitions):
    held = [simulation(random.Random(f"{simulation.__name__} {i}")) for i in range(repetitions)]
    return mean(held)


@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda f: f.__name__)
def test_most_intervals_hold_the_truth(simulation):
    assert 0.9 <= coverage(simulation, 100) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("simulation", SIMULATIONS, ids=lambda f: f.__name__)
def test_95_percent_of_the_intervals_hold_the_truth(simulation):
    assert 0.93 <= coverage(simulation, 2000) <= 0.97
