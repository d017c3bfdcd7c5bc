"""Bradley-Terry strengths by maximum likelihood, as Elo ratings with bootstrap intervals.

Model ``i`` beats model ``j`` with probability ``sigmoid(s_i - s_j)`` (Bradley and Terry 1952); a
tie is half a win for each. The strengths exist if every model is joined to every other one by a
chain of wins in both directions (Ford 1957). A model that never wins or never loses has none: its
rating would be infinite, so it gets a reason instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from cai.arguments import check_records
from cai.evaluate.bootstrap import DRAWS, percentiles, resamples
from cai.evaluate.intervals import Array, cluster_totals, degrees_of_freedom
from cai.keys import seed_for

ELO = 400 / math.log(10)
"""Elo points for one unit of log-odds."""
MAX_STEP = 2.0
"""Largest change of a strength in one step of Newton's method."""
MAX_STEPS = 200
TOLERANCE = 1e-10


class Outcome(NamedTuple):
    """One comparison of the answers of two models.

    Attributes:
        first: Name of one model.
        second: Name of the other one.
        win: 1 if the first model's answer is better, 0 if the second one's is, one half for a tie.
        cluster: The conversation that the answers belong to.
    """

    first: str
    second: str
    win: float
    cluster: str


class Rating(NamedTuple):
    """The Elo rating of a model, with its 95 % bootstrap interval.

    Attributes:
        value: The rating; the mean of all rated models is 0.
        low: Lower end; None if a model never wins or never loses in too many of the draws.
        high: Upper end, or None.
    """

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """How far apart the ratings of two models are.

    Attributes:
        first: The stronger model.
        second: The other one.
        value: The difference in Elo.
        low: Lower end of the 95 % interval; all pairs together are inside with 95 %. None if it is
            not known.
        high: Upper end, or None.
        significant: Whether 0 is outside of the interval.
    """

    first: str
    second: str
    value: float
    low: float | None
    high: float | None
    significant: bool


class Ratings(NamedTuple):
    """What comparisons tell about the strengths of models.

    Attributes:
        elo: Ratings of the models that have one, the strongest first.
        unrated: Why the other models have none.
        differences: All pairs of rated models.
        groups: Largest sets of rated models of which no two differ significantly.
        undefined: Number of bootstrap draws in which some rated model has no rating.
    """

    elo: dict[str, Rating]
    unrated: dict[str, str]
    differences: list[Difference]
    groups: list[list[str]]
    undefined: int


def rate_models(outcomes: Sequence[Outcome], seed: int = 0, draws: int = DRAWS) -> Ratings:
    """Rate models by their comparisons.

    Args:
        outcomes: The comparisons.
        seed: Random seed of the bootstrap, which draws conversations.
        draws: How often they are drawn.

    Returns:
        The Elo ratings with their intervals, best first, and the differences between the models.

    Raises:
        ArgumentError: If something else than outcomes is given.
    """
    check_records("outcomes", outcomes, Outcome)
    names = list(dict.fromkeys(name for o in outcomes for name in (o.first, o.second)))
    wins = win_matrix(outcomes, names)
    rated = _rated(wins)
    unrated = {name: _reason(wins, i) for i, name in enumerate(names) if i not in rated}
    if not rated:
        return Ratings({}, unrated, [], [], 0)
    names = [names[i] for i in rated]
    values = ELO * strengths(wins[np.ix_(rated, rated)])
    inside = [o for o in outcomes if o.first in names and o.second in names]
    drawn = ELO * _drawn_strengths(inside, names, seed, draws)
    degrees = degrees_of_freedom([outcome.cluster for outcome in inside])
    undefined = draws - len(drawn)
    elo = {
        name: Rating(float(values[i]), *_interval(drawn[:, i], undefined, degrees))
        for i, name in enumerate(names)
    }
    elo = dict(sorted(elo.items(), key=lambda item: -item[1].value))
    differences = _differences(dict(zip(names, values.tolist(), strict=True)), drawn, undefined)
    return Ratings(elo, unrated, differences, _groups(list(elo), differences), undefined)


def win_matrix(outcomes: Sequence[Outcome], names: Sequence[str]) -> Array:
    """Count the wins of each model (row) against each other one (column).

    Args:
        outcomes: The comparisons.
        names: The models.
    """
    index = {name: i for i, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for outcome in outcomes:
        i, j = index[outcome.first], index[outcome.second]
        wins[i, j] += outcome.win
        wins[j, i] += 1 - outcome.win
    return wins


def connected(wins: Array) -> Array:
    """Return for each pair of models whether a chain of wins leads from one to the other.

    Args:
        wins: Wins of the row against the column; further dimensions may come before these.
    """
    reach = ((wins > 0) | np.eye(wins.shape[-1], dtype=bool)).astype(np.float64)
    for _ in range(max(1, math.ceil(math.log2(wins.shape[-1])))):
        reach = (reach @ reach > 0).astype(np.float64)
    return reach


def strengths(wins: Array) -> Array:
    """Fit Bradley-Terry strengths by Newton's method.

    Args:
        wins: Wins of the row against the column; further dimensions may come before these.

    Returns:
        The log-odds strengths, with mean 0.

    Raises:
        ValueError: If they do not exist, because the models are not connected.
    """
    if not connected(wins).all():
        raise ValueError("no strengths exist: a model never wins or never loses")
    games = wins + np.swapaxes(wins, -1, -2)
    found = np.zeros(wins.shape[:-1])
    ones = np.full(wins.shape[-2:], 1.0)  # fixes the mean, which the likelihood leaves open
    for _ in range(MAX_STEPS):
        p = 1 / (1 + np.exp(found[..., None, :] - found[..., :, None]))
        gradient = (wins - games * p).sum(-1)
        information = -games * p * (1 - p)
        information[..., range(wins.shape[-1]), range(wins.shape[-1])] -= information.sum(-1)
        step = np.linalg.solve(information + ones, gradient[..., None])[..., 0]
        largest = np.abs(step).max(-1, keepdims=True)
        found = found + step * np.minimum(1.0, MAX_STEP / np.maximum(largest, MAX_STEP))
        if largest.max() < TOLERANCE:
            break
    return np.asarray(found - found.mean(-1, keepdims=True))


def _rated(wins: Array) -> list[int]:
    """The largest set of models that have strengths among themselves; of equal ones the first."""
    if not len(wins):
        return []
    reach = connected(wins)
    mutual = (reach * reach.T) > 0
    best = np.flatnonzero(mutual[mutual.sum(1).argmax()])
    return [int(i) for i in best] if len(best) > 1 else []


def _reason(wins: Array, i: int) -> str:
    if not wins[i].sum():
        return "never wins"
    if not wins[:, i].sum():
        return "never loses"
    return "its wins and losses do not join it to the other models in both directions"


def _drawn_strengths(
    outcomes: Sequence[Outcome], names: Sequence[str], seed: int, draws: int
) -> Array:
    """The strengths in each bootstrap draw in which all models have one."""
    rows = np.zeros((len(outcomes), len(names) ** 2))
    index = {name: i for i, name in enumerate(names)}
    for row, outcome in zip(rows, outcomes, strict=True):
        i, j = index[outcome.first], index[outcome.second]
        row[i * len(names) + j] += outcome.win
        row[j * len(names) + i] += 1 - outcome.win
    totals = cluster_totals(rows, [outcome.cluster for outcome in outcomes])
    counts = np.array(
        [
            np.bincount(drawn, minlength=len(totals))
            for drawn in resamples(len(totals), seed_for("elo", seed), draws)
        ],
        dtype=np.float64,
    )
    wins = (counts @ totals).reshape(draws, len(names), len(names))
    defined = wins[connected(wins).all((1, 2))]
    return strengths(defined) if len(defined) else np.zeros((0, len(names)))


def _interval(
    values: Array, undefined: int, degrees: float
) -> tuple[float, float] | tuple[None, None]:
    """The interval of a rating; draws that are not defined may lie beyond either end."""
    beyond = np.full(undefined, np.inf)
    low, high = percentiles(np.concatenate([-beyond, values, beyond]), degrees)
    return (low, high) if math.isfinite(low) else (None, None)


def _differences(values: Mapping[str, float], drawn: Array, undefined: int) -> list[Difference]:
    """Compare all pairs of models, with intervals that hold together."""
    names = list(values)
    pairs = list(combinations(range(len(names)), 2))
    centers = np.array([values[names[i]] - values[names[j]] for i, j in pairs])
    halves = _simultaneous(
        np.array([drawn[:, i] - drawn[:, j] for i, j in pairs]), centers, undefined
    )
    found = []
    for (i, j), center, half in zip(pairs, centers.tolist(), halves, strict=True):
        better, worse = (i, j) if center >= 0 else (j, i)
        value = abs(center)
        low, high = (value - half, value + half) if half is not None else (None, None)
        significant = low is not None and low > 0
        found.append(Difference(names[better], names[worse], value, low, high, significant))
    return sorted(found, key=lambda difference: -difference.value)


def _simultaneous(drawn: Array, centers: Array, undefined: int) -> list[float | None]:
    """Half the width of an interval for each row, so that all hold together with 95 %.

    The critical value is the 95 % quantile of the largest studentized deviation of any row, as in
    Tukey's test. Draws that are not defined count as infinite deviations.
    """
    rank = round(0.95 * (drawn.shape[1] + undefined - 1))
    if rank >= drawn.shape[1]:
        return [None] * len(centers)
    errors = np.maximum(drawn.std(1, ddof=1), TOLERANCE)
    largest = (np.abs(drawn - centers[:, None]) / errors[:, None]).max(0)
    return list((np.sort(largest)[rank] * errors).tolist())


def _groups(names: Sequence[str], differences: Sequence[Difference]) -> list[list[str]]:
    """The largest sets of models of which no two differ significantly, the strongest first."""
    alike = {name: {name} for name in names}
    for difference in differences:
        if not difference.significant:
            alike[difference.first].add(difference.second)
            alike[difference.second].add(difference.first)
    groups: list[set[str]] = []
    for name in names:  # each group is extended by the model, or split at those unlike it
        extended = [group & alike[name] | {name} for group in groups] + [{name}]
        groups = [group for group in groups if not group <= alike[name]] + extended
        unique = list(map(set, dict.fromkeys(frozenset(group) for group in groups)))
        groups = [g for g in unique if not any(g < other for other in unique)]
    order = {name: i for i, name in enumerate(names)}
    ordered = [sorted(group, key=order.__getitem__) for group in groups]
    return sorted(ordered, key=lambda group: [order[name] for name in group])
