"""Intervals and calibration, from counts and probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Z95 = 1.959964


class Rate(NamedTuple):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: float, n: int) -> Rate:
    """Wilson score interval of a binomial share; (0, 0, 1) without data."""
    if n == 0:
        return Rate(0.0, 0.0, 1.0, 0)
    share, spread = successes / n, Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Rate(share, max(0.0, centre - half), min(1.0, centre + half), n)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 without data."""
    return sum(values) / len(values) if values else 0.0


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
    return [Bin(mean([predicted[i] for i in group]), mean([happened[i] for i in group]), len(group)) for group in members if group]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between predicted and observed, weighted by the size of the bins."""
    total = sum(b.n for b in bins)
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / total if total else 0.0
