"""Intervals and calibration, from counts and probabilities.

Nothing here makes up a figure: without data there is no mean, no share and no calibration error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Z95 = 1.959964


class Proportion(NamedTuple):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int) -> Proportion:
    """Wilson score interval of a binomial share.

    Raises:
        ValueError: without data.
    """
    if n == 0:
        raise ValueError("there is no share of nothing")
    share, spread = successes / n, Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Proportion(share, max(0.0, centre - half), min(1.0, centre + half), n)


def proportion(successes: float, n: int) -> dict[str, Any]:
    """A share as it is written to files: the fields of :class:`Proportion`, or just ``{"n": 0}`` without data."""
    return wilson(successes, n)._asdict() if n else {"n": 0}


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean.

    Raises:
        ValueError: without data.
    """
    if not values:
        raise ValueError("there is no mean of nothing")
    return sum(values) / len(values)


def means(**series: Sequence[float]) -> dict[str, float]:
    """The mean of each series by its name; a series without data is left out."""
    return {name: mean(values) for name, values in series.items() if values}


class Bin(NamedTuple):
    """One bin of a reliability diagram."""

    predicted: float
    observed: float
    n: int


def reliability(predicted: Sequence[float], happened: Sequence[float], bins: int = 10) -> list[Bin]:
    """Equal-width bins of predicted probability against observed frequency; empty bins are left out."""
    members: list[list[int]] = [[] for _ in range(bins)]
    for i, p in enumerate(predicted):
        members[min(int(p * bins), bins - 1)].append(i)
    return [
        Bin(mean([predicted[i] for i in group]), mean([happened[i] for i in group]), len(group))
        for group in members
        if group
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between predicted and observed, weighted by the size of the bins.

    Raises:
        ValueError: without data.
    """
    total = sum(b.n for b in bins)
    if not total:
        raise ValueError("there is no calibration error of nothing")
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / total
