"""Intervals for values that come in clusters, such as several answers to one prompt.

Answers to one prompt are not independent, so that the prompts are resampled and not the answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cai.evaluate.statistics import Z95, mean, wilson

RESAMPLES = 2000
Clusters = Mapping[str, Sequence[float]]
"""The values of each cluster, by its name; none is empty."""


class Estimate(NamedTuple):
    """A mean with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower end of the interval; None where there is too little data for one.
        high: Upper end of the interval.
        n: Number of values.
        clusters: Number of clusters.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int


def clustered_mean(clusters: Clusters) -> Estimate:
    """Compute the mean of clustered values with a 95 % interval.

    For values that are all 0 or 1 it is Wilson's interval with the number of values divided by the
    design effect; for others it is the mean plus and minus 1.96 clustered standard errors.

    Args:
        clusters: The values.

    Raises:
        ValueError: If there are no values.
    """
    values = [value for members in clusters.values() for value in members]
    center, n = mean(values), len(values)
    variance = sum(sum(v - center for v in members) ** 2 for members in clusters.values()) / n**2
    if set(values) <= {0.0, 1.0}:
        independent = center * (1 - center)
        size = independent / variance if variance > 0 else float(len(clusters))
        rate = wilson(center * size, size)  # type: ignore[arg-type]
        return Estimate(center, rate.low, rate.high, n, len(clusters))
    if len(clusters) < 2:
        return Estimate(center, None, None, n, len(clusters))
    half = Z95 * math.sqrt(variance * len(clusters) / (len(clusters) - 1))
    return Estimate(center, center - half, center + half, n, len(clusters))


def paired_difference(first: Clusters, second: Clusters) -> Estimate | None:
    """Compute by how much one mean exceeds another, on the clusters that both have.

    The interval is the percentile bootstrap over clusters.

    Args:
        first: The values of the one.
        second: The values of the other.

    Returns:
        The mean over clusters of the difference of their means; None without a common cluster.
    """
    shared = [name for name in first if name in second]
    if not shared:
        return None
    differences = np.array([mean(first[name]) - mean(second[name]) for name in shared])
    n = sum(len(first[name]) + len(second[name]) for name in shared)
    if len(shared) < 2:
        return Estimate(float(differences.mean()), None, None, n, len(shared))
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(shared), size=(RESAMPLES, len(shared)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return Estimate(float(differences.mean()), float(low), float(high), n, len(shared))
