"""Length-controlled win rate: how often a model would win if both answers were equally long.

After Dubois, Galambosi, Liang and Hashimoto, "Length-Controlled AlpacaEval" (arXiv 2404.04475): a
logistic regression explains the preference by the model and by ``tanh`` of the standardized
difference in length, and is evaluated where that difference is 0. Their third term, the difficulty
of each instruction, needs many models on the same instructions and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cai.arguments import check_same_length
from cai.evaluate.intervals import (
    ADDED,
    Array,
    Estimate,
    clustered_variance,
    degrees_of_freedom,
)
from cai.evaluate.statistics import t95

PRIOR = 5.0
"""Standard deviation of the normal prior on the coefficient of length, in log-odds.

Without it the coefficient would be infinite where the longer answer always wins.
"""
MAX_STEP = 2.0
"""Largest change of a coefficient in one step of Newton's method."""
MAX_STEPS = 100
TOLERANCE = 1e-10


class LengthControl(NamedTuple):
    """What is left of a win rate without the difference in length.

    Attributes:
        rate: The win rate at equal length, with its interval.
        coefficient: Log-odds by which an answer that is much longer gains, at most.
    """

    rate: Estimate
    coefficient: float


def length_controlled(
    wins: Sequence[float], longer_by: Sequence[float], clusters: Sequence[str]
) -> LengthControl | None:
    """Estimate a win rate at equal length.

    The interval is by the clustered variance of the log-odds, with Student's t. To the variance,
    half a cluster of wins and half a one of losses are added, as in
    :func:`cai.clustered_share`.

    Args:
        wins: For each comparison 1, 0, or one half for a tie.
        longer_by: By how much the model's answer is longer than the other one, in any unit.
        clusters: The cluster of each comparison.

    Returns:
        None if it cannot be estimated, because the model wins every comparison, or loses every
        one, or there is a single cluster.

    Raises:
        ArgumentError: If there are no comparisons, or the lists differ in length.
    """
    check_same_length("wins", wins, longer_by=longer_by, clusters=clusters)
    n, count = len(wins), len(set(clusters))
    if count < 2 or sum(wins) in (0, n):
        return None
    observed, longer = np.array(wins, dtype=np.float64), np.array(longer_by, dtype=np.float64)
    spread = float(longer.std())
    design = np.stack([np.ones(n), np.tanh(longer / spread) if spread else np.zeros(n)], axis=1)
    coefficients, information = fit(design, observed)
    expected = _sigmoid(design @ coefficients)
    bread = np.linalg.inv(information)
    influence = design * (observed - expected)[:, None] @ bread
    equal = float(_sigmoid(coefficients[0]))
    added = np.array([[1 - equal, 0.0], [-equal, 0.0]]) * (n / count) @ bread
    variance = clustered_variance(influence, clusters) + ADDED * added.T @ added
    half = t95(degrees_of_freedom(clusters)) * float(np.sqrt(variance[0, 0]))
    low, high = _sigmoid(coefficients[0] + np.array([-half, half]))
    rate = Estimate(equal, float(low), float(high), n, count)
    return LengthControl(rate, float(coefficients[1]))


def fit(design: Array, observed: Array) -> tuple[Array, Array]:
    """Fit a logistic regression with a normal prior on all coefficients but the first.

    Args:
        design: One row of features for each observation, the first of which is 1.
        observed: What is to be explained, each from 0 to 1 and not all at one end.

    Returns:
        The coefficients, and the matrix of second derivatives of the penalized loss.
    """
    precision = np.full(design.shape[1], PRIOR**-2)
    precision[0] = 0.0
    coefficients = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        expected = _sigmoid(design @ coefficients)
        gradient = design.T @ (observed - expected) - precision * coefficients
        weights = expected * (1 - expected)
        information = design.T @ (design * weights[:, None]) + np.diag(precision)
        step = np.linalg.solve(information, gradient)
        coefficients = coefficients + step * min(1.0, MAX_STEP / max(np.abs(step).max(), MAX_STEP))
        if np.abs(step).max() < TOLERANCE:
            break
    return coefficients, information


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))
