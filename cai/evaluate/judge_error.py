"""Win rates that carry the measured error of the judge.

A judge's win rate estimates what the judge prefers, however narrow its interval is. Where people or
a gold function have labeled a part of the comparisons, these labels tell how the judge errs, and
both estimators here put that into the value and into its interval.

*Prediction-powered inference* (arXiv 2301.09633, tuned as in arXiv 2311.01453) adds the judge's
mean error on the labeled comparisons to its mean on the others. It is right for any judge if the
labeled comparisons are a random sample of all. *Rogan and Gladen's estimator* (1978) inverts the
judge's hit rates. It needs the judge to err on the labeled wins, and on the labeled losses, as it
does on the others; the labeled comparisons may hold more wins than the others do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cai.arguments import check_records
from cai.evaluate.intervals import (
    ADDED,
    Array,
    Estimate,
    clustered_variance,
    degrees_of_freedom,
)
from cai.evaluate.statistics import t95

MIN_LABELS = 10
"""Labeled comparisons, and conversations with some, below which nothing is corrected."""


class Judged(NamedTuple):
    """A comparison as the judge sees it, with its true label if there is one.

    Attributes:
        judge: The judge's verdict: 1 for a win, 0 for a loss, one half for a tie.
        gold: The same by people or by a gold function; None where there is none.
        cluster: The conversation that the comparison belongs to.
    """

    judge: float
    gold: float | None
    cluster: str


class PredictionPowered(NamedTuple):
    """A win rate corrected by prediction-powered inference.

    Attributes:
        rate: The win rate with its interval; ``n`` counts all comparisons.
        labeled: Number of comparisons with a true label.
        weight: How much of the judge's verdicts is used, from 0 to 1.
    """

    rate: Estimate
    labeled: int
    weight: float


class RoganGladen(NamedTuple):
    """A win rate corrected by the judge's hit rates.

    Attributes:
        rate: The win rate with its interval; ``n`` counts all comparisons.
        labeled: Number of comparisons with a true label.
        sensitivity: The judge's mean verdict on true wins.
        specificity: One less its mean verdict on true losses.
    """

    rate: Estimate
    labeled: int
    sensitivity: float
    specificity: float


def prediction_powered(comparisons: Sequence[Judged]) -> PredictionPowered | None:
    """Correct a win rate by prediction-powered inference with power tuning.

    To the variance half an error of the judge is added each way, so that a judge who makes no
    mistake on a few labels does not count as perfect.

    Args:
        comparisons: All comparisons; the labeled ones are a random sample of them.

    Returns:
        None if there are fewer than ``MIN_LABELS`` labels.
    """
    data = _Data.of(comparisons)
    if data is None:
        return None
    n, rest = len(data.gold), data.judge[~data.labeled]
    verdicts = data.judge[data.labeled]
    weight = power(data.gold, verdicts, rest)
    errors = data.gold - weight * verdicts
    value = float(errors.mean()) + (weight * float(rest.mean()) if len(rest) else 0.0)
    influence = np.zeros(len(data.judge))
    influence[data.labeled] = (errors - errors.mean()) / n
    if len(rest):
        influence[~data.labeled] = weight * (rest - rest.mean()) / len(rest)
    added = (np.array([1.0, -weight]) - errors.mean()) * data.cluster_size / n
    variance = data.variance(influence[:, None], added[:, None])[0, 0]
    half = data.quantile * float(np.sqrt(variance))
    return PredictionPowered(data.estimate(value, value - half, value + half), n, weight)


def power(gold: Array, judge: Array, rest: Array) -> float:
    """Return how much of the judge's verdicts to use, for the smallest variance.

    Equation 6 of arXiv 2311.01453, for a mean.

    Args:
        gold: True labels.
        judge: The judge's verdicts on the same comparisons.
        rest: Its verdicts on the comparisons without a label.
    """
    spread = float(np.concatenate([judge, rest]).var())
    if not len(rest) or not spread:
        return 0.0
    shared = float(((gold - gold.mean()) * (judge - judge.mean())).mean())
    return min(max(shared / (spread * (1 + len(gold) / len(rest))), 0.0), 1.0)


def rogan_gladen(comparisons: Sequence[Judged]) -> RoganGladen | None:
    """Correct a win rate by the judge's mean verdict on true wins and on true losses.

    A true tie is taken to lie halfway between these. The interval is Fieller's, which stays right
    where the judge hardly tells wins from losses; it is then as wide as from 0 to 1. To the
    variance half a right and half a wrong verdict on a win and on a loss are added.

    Args:
        comparisons: All comparisons.

    Returns:
        None if there are fewer than ``MIN_LABELS`` labels, if these are all alike, or if the judge
        does not prefer wins to losses.
    """
    data = _Data.of(comparisons)
    if data is None or not data.gold.std():
        return None
    design = np.stack([np.ones(len(data.gold)), data.gold], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    verdicts = data.judge[data.labeled]
    base, slope = inverse @ design.T @ verdicts
    if slope <= 0:
        return None
    lead = float(data.judge.mean() - base)
    influence = np.zeros((len(data.judge), 2))  # on the lead and on the slope
    influence[:, 0] = (data.judge - data.judge.mean()) / len(data.judge)
    moved = design * (verdicts - design @ [base, slope])[:, None] @ inverse
    influence[data.labeled] += moved * [-1, 1]
    corners = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    wrong = np.array([1.0, 0.0, 1.0, 0.0]) - corners @ [base, slope]
    added = corners * wrong[:, None] @ inverse * [-1, 1] * data.cluster_size
    low, high = fieller(lead, float(slope), data.variance(influence, added) * data.quantile**2)
    rate = data.estimate(lead / float(slope), low, high)
    return RoganGladen(rate, len(data.gold), float(base + slope), float(1 - base))


def why_uncorrected(comparisons: Sequence[Judged]) -> str:
    """Say why a win rate cannot be corrected.

    Args:
        comparisons: The comparisons, for which an estimator here returned None.
    """
    data = _Data.of(comparisons)
    if data is None:
        return f"there are fewer than {MIN_LABELS} labels, or conversations with some"
    if not data.gold.std():
        return "all labels are alike"
    return "the judge does not prefer true wins to true losses"


def fieller(numerator: float, denominator: float, spread: Array) -> tuple[float, float]:
    """Return Fieller's interval of a ratio.

    Args:
        numerator: The numerator.
        denominator: The denominator, above 0.
        spread: Their covariance matrix, times the square of the quantile of the interval.

    Returns:
        The ends; infinite if the denominator may be 0.
    """
    square = denominator**2 - float(spread[1, 1])
    if square <= 0:
        return -np.inf, np.inf
    middle = numerator * denominator - float(spread[0, 1])
    constant = numerator**2 - float(spread[0, 0])
    half = float(np.sqrt(max(middle**2 - square * constant, 0.0)))
    return (middle - half) / square, (middle + half) / square


class _Data(NamedTuple):
    """Comparisons as arrays; ``gold`` has the labels of the labeled ones only."""

    judge: Array
    gold: Array
    labeled: npt.NDArray[np.bool_]
    clusters: list[str]
    labeled_clusters: int

    @classmethod
    def of(cls, comparisons: Sequence[Judged]) -> _Data | None:
        """Comparisons with enough labels, or None."""
        check_records("comparisons", comparisons, Judged)
        labels = [c.gold for c in comparisons if c.gold is not None]
        count = len({c.cluster for c in comparisons if c.gold is not None})
        if min(len(labels), count) < MIN_LABELS:
            return None
        return cls(
            np.array([c.judge for c in comparisons]),
            np.array(labels),
            np.array([c.gold is not None for c in comparisons]),
            [c.cluster for c in comparisons],
            count,
        )

    @property
    def quantile(self) -> float:
        """Of Student's t over the conversations with labels, which are the fewest."""
        labeled = zip(self.clusters, self.labeled, strict=True)
        return t95(degrees_of_freedom([name for name, has_label in labeled if has_label]))

    @property
    def cluster_size(self) -> float:
        """Mean number of labels of a conversation that has some."""
        return len(self.gold) / self.labeled_clusters

    def variance(self, influence: Array, added: Array) -> Array:
        """Clustered variance, with what is added to it."""
        return np.asarray(clustered_variance(influence, self.clusters) + ADDED * added.T @ added)

    def estimate(self, value: float, low: float, high: float) -> Estimate:
        """A win rate, from 0 to 1."""
        value, low, high = (min(max(end, 0.0), 1.0) for end in (value, low, high))
        return Estimate(value, low, high, len(self.judge), len(set(self.clusters)))
