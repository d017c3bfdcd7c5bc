"""Intervals, calibration and correlation, from counts and probabilities.

Nothing here makes up a value: without data there is no mean, no proportion and no error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

Z95 = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


class Proportion(NamedTuple):
    """A proportion with its 95 % interval.

    Attributes:
        value: The proportion, from 0 to 1.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of observations.
    """

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: float) -> Proportion:
    """Compute the Wilson score interval of a binomial proportion.

    Args:
        successes: Number of successes; a tie may count as half.
        n: Number of trials; not a whole number where only the effective one is known.

    Raises:
        ValueError: If there are no trials.
    """
    if n == 0:
        raise ValueError("there is no proportion of nothing")
    share, spread = successes / n, Z95**2 / n
    center = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Proportion(share, max(0.0, center - half), min(1.0, center + half), round(n))


@lru_cache(maxsize=4096)
def t95(degrees: float) -> float:
    """Return the quantile of a two-sided 95 % interval by Student's t.

    Args:
        degrees: Degrees of freedom, at least 1. Between whole numbers below 100 the quantile is
            interpolated in their reciprocals.
    """
    if degrees > 100:  # Cornish and Fisher's expansion, right to 1e-5 here
        first, second = (Z95**3 + Z95) / 4, (5 * Z95**5 + 16 * Z95**3 + 3 * Z95) / 96
        return Z95 + first / degrees + second / degrees**2
    whole = max(math.floor(degrees), 1)
    if degrees > whole:
        share = (whole + 1) * (1 - whole / degrees)
        return t95(whole) + share * (t95(whole + 1) - t95(whole))
    low, high = 0.0, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, whole) < 0.95 else (low, middle)
    return high


def _t_inside(t: float, degrees: int) -> float:
    """Probability of Student's t between -t and t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def proportion(successes: float, n: int) -> dict[str, Any]:
    """Return a proportion as files store it.

    Args:
        successes: Number of successes; a tie may count as half.
        n: Number of trials.

    Returns:
        The fields of :class:`Proportion`, or ``{"n": 0}`` without data.
    """
    return wilson(successes, n)._asdict() if n else {"n": 0}


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("there is no mean of nothing")
    return sum(values) / len(values)


def means(**series: Sequence[float]) -> dict[str, float]:
    """Return the mean of each series by name; a series without data is left out."""
    return {name: mean(values) for name, values in series.items() if values}


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Pearson's correlation; None for a constant series or fewer than two values."""
    try:
        return statistics.correlation(first, second)
    except statistics.StatisticsError:
        return None


class Bin(NamedTuple):
    """One bin of a reliability diagram.

    Attributes:
        predicted: Mean predicted probability.
        observed: Share of predictions that came true.
        n: Number of predictions.
    """

    predicted: float
    observed: float
    n: int


def reliability(predicted: Sequence[float], happened: Sequence[float], bins: int = 10) -> list[Bin]:
    """Compare predicted probabilities with observed frequencies.

    Args:
        predicted: Probabilities, from 0 to 1.
        happened: For each of them 1 if it came true, else 0.
        bins: Number of bins of equal width.

    Returns:
        The bins that are not empty.
    """
    members: list[list[int]] = [[] for _ in range(bins)]
    for i, p in enumerate(predicted):
        members[min(int(p * bins), bins - 1)].append(i)
    return [
        Bin(mean([predicted[i] for i in group]), mean([happened[i] for i in group]), len(group))
        for group in members
        if group
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance of predicted from observed, weighted by the size of the bins.

    Raises:
        ValueError: If all bins are empty.
    """
    total = sum(b.n for b in bins)
    if not total:
        raise ValueError("there is no calibration error of nothing")
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / total
