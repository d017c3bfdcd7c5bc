"""Intervals of observations that come in clusters, such as several answers to one conversation.

Observations of one conversation are not independent, so whole conversations are what is sampled:
the standard error sums the residuals of each before it squares them, which is the sandwich
estimator of Liang and Zeger (1986). A large conversation pulls the mean to itself, so its residuals
are too small; they are corrected, and Student's t has fewer degrees of freedom, after Bell and
McCaffrey (2002). :mod:`cai.evaluate.bootstrap` draws conversations instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cai.arguments import check_same_length
from cai.errors import ArgumentError
from cai.evaluate.statistics import mean, t95, wilson
from cai.records import Prompt

Array = npt.NDArray[np.float64]
Clusters = Mapping[str, Sequence[float]]
"""The observations of each cluster, by its name; none is empty."""
SHARE = {0.0, 0.5, 1.0}
"""The values of observations whose mean is a share."""
ADDED = 0.5
"""Clusters of ones, and of zeros, that are added to the variance of a share."""
ROUNDING = 1e-9
"""By how much a share may leave the range from 0 to 1."""


class Estimate(NamedTuple):
    """A number with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; None if there is none, as of a single cluster.
        high: Upper end of the interval, or None.
        n: Number of observations.
        clusters: Number of clusters that they come from.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    clusters: int


def conversation(prompt: Prompt) -> str:
    """Return the cluster of a prompt: prompts with the same first user turn are one conversation.

    Args:
        prompt: The prompt.
    """
    return next(turn.content for turn in prompt.messages if turn.role == "user")


def cluster_totals(values: Sequence[float] | Array, clusters: Sequence[str]) -> Array:
    """Sum the values of each cluster, in the order of the names of the clusters.

    Args:
        values: One value, or one row of values, for each observation.
        clusters: The cluster of each observation.
    """
    names = sorted(set(clusters))
    index = {name: i for i, name in enumerate(names)}
    rows = np.asarray(values, dtype=np.float64)
    totals = np.zeros((len(names), *rows.shape[1:]))
    np.add.at(totals, [index[name] for name in clusters], rows)
    return totals


def degrees_of_freedom(clusters: Sequence[str]) -> float:
    """Return the degrees of freedom of a clustered variance: of a mean of equal, independent parts.

    Args:
        clusters: The cluster of each observation.

    Returns:
        One less than the number of clusters if all are of one size; fewer if some are larger, and 0
        for a single one.
    """
    sizes = cluster_totals([1.0] * len(clusters), clusters)
    if len(sizes) == 1:
        return 0.0
    n = float(sizes.sum())
    pulls = sizes**2 / (1 - sizes / n)
    squares = sizes @ sizes + (pulls.sum() ** 2 - pulls @ pulls) / n**2
    return max(n**2 / float(squares), 1.0)


def _correction(sizes: Array) -> Array:
    """By how much a cluster's squared total is too small, beside what holds for equal sizes."""
    if len(sizes) == 1:
        return np.ones(1)
    return np.asarray((1 - 1 / len(sizes)) / (1 - sizes / sizes.sum()))


def clustered_variance(influence: Sequence[float] | Array, clusters: Sequence[str]) -> Array:
    """Compute the clustered (sandwich) variance of an estimate.

    Args:
        influence: For each observation, how much it moves the estimate away from what it is
            without it: of a mean the residuals, divided by their number. One row for each
            observation if there are several estimates.
        clusters: The cluster of each observation; there are at least two different ones.

    Returns:
        The variance, or the covariance matrix of several estimates.
    """
    totals = cluster_totals(influence, clusters)
    correction = _correction(cluster_totals([1.0] * len(clusters), clusters))
    squares = totals.T * correction @ totals
    return np.asarray(squares * (len(totals) / (len(totals) - 1)))


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Estimate a mean, with an interval by Student's t over the clusters.

    Args:
        values: The observations.
        clusters: The cluster of each of them.

    Returns:
        The estimate, without an interval if there is a single cluster.

    Raises:
        ArgumentError: If there are no observations, or not one cluster for each.
    """
    check_same_length("values", values, clusters=clusters)
    observed = np.asarray(values, dtype=np.float64)
    value, count = float(observed.mean()), len(set(clusters))
    if count == 1:
        return Estimate(value, None, None, len(observed), count)
    variance = clustered_variance((observed - value) / len(observed), clusters)
    half = t95(degrees_of_freedom(clusters)) * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half, len(observed), count)


def clustered_estimate(clusters: Clusters) -> Estimate:
    """Estimate a mean as a share if every value is 0, 1 or one half, else as a mean.

    Args:
        clusters: The observations.

    Raises:
        ValueError: If there are none.
    """
    values = [value for of_cluster in clusters.values() for value in of_cluster]
    names = [name for name, of_cluster in clusters.items() for _ in of_cluster]
    return (clustered_share if set(values) <= SHARE else clustered_mean)(values, names)


def paired_difference(
    first: Clusters, second: Clusters, conversations: Mapping[str, str] | None = None
) -> Estimate | None:
    """Estimate by how much one mean exceeds another, on the prompts that both have.

    Args:
        first: The observations of the one, by prompt or by conversation.
        second: Those of the other.
        conversations: The conversation of each prompt; None: each is one of its own.

    Returns:
        The mean of the differences of their means, with the interval of two paired shares if all
        observations are 0, 1 or one half; None without a common prompt.
    """
    shared = [name for name in first if name in second]
    if not shared:
        return None
    values = {value for name in shared for value in (*first[name], *second[name])}
    estimate = clustered_difference if values <= SHARE else clustered_mean
    gains = [mean(first[name]) - mean(second[name]) for name in shared]
    found = estimate(gains, [(conversations or {}).get(name, name) for name in shared])
    return found._replace(n=sum(len(first[name]) + len(second[name]) for name in shared))


def clustered_difference(gains: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Estimate the difference of two paired shares.

    Where hardly any pair differs, the clustered error alone is too small, and 0 if none does. So
    the interval is that of Bonett and Price (2012): it counts one more cluster in which only the
    first is right, and one in which only the second is. Few clusters widen it by Student's t.

    Args:
        gains: By how much the first exceeds the second in each pair, from -1 to 1.
        clusters: The cluster of each pair.

    Returns:
        The estimate, without an interval if there is a single cluster.

    Raises:
        ValueError: If there are no pairs.
    """
    found = clustered_mean(gains, clusters)
    if found.low is None:
        return found
    size = found.n / found.clusters
    pairs = found.n + 2 * size
    center = float(sum(gains)) / pairs
    sizes = cluster_totals([1.0] * found.n, clusters)
    totals = cluster_totals(gains, clusters) - center * sizes
    squares = totals**2 @ _correction(sizes)
    added = size**2 * ((1 - center) ** 2 + (1 + center) ** 2)
    half = t95(degrees_of_freedom(clusters)) * float(np.sqrt(squares + added)) / pairs
    return found._replace(low=max(center - half, -1.0), high=min(center + half, 1.0))


def clustered_share(values: Sequence[float], clusters: Sequence[str]) -> Estimate:
    """Estimate a share with Wilson's interval for the effective number of observations.

    Observations of one conversation say less than independent ones, and ties vary less than wins
    and losses. The effective number is the actual one divided by the design effect (Kish 1965): the
    clustered variance over the variance of as many independent values of 0 and 1. Half a cluster of
    ones and half a one of zeros are added to both variances, so that they are known also where all
    values are equal. Few clusters widen the interval as Student's t does (Korn and Graubard 1998).
    Of independent values of 0 and 1 it is Wilson's interval.

    Args:
        values: The observations, each from 0 to 1.
        clusters: The cluster of each of them.

    Returns:
        The estimate; from 0 to 1 if there is a single cluster with several values.

    Raises:
        ArgumentError: If there are no observations, not one cluster for each, or values that are
            not from 0 to 1.
    """
    check_same_length("values", values, clusters=clusters)
    if not all(-ROUNDING <= value <= 1 + ROUNDING for value in values):
        raise ArgumentError("values", "must be from 0 to 1; use clustered_mean for others")
    n, count = len(values), len(set(clusters))
    value = sum(values) / n
    if count == 1 < n:  # nothing tells how much conversations differ
        return Estimate(value, 0.0, 1.0, n, count)
    effective = n / design_effect(values, clusters)
    if count < n:
        effective *= (t95(n - 1) / t95(degrees_of_freedom(clusters))) ** 2
    interval = wilson(value * effective, effective)
    return Estimate(value, interval.low, interval.high, n, count)


def design_effect(values: Sequence[float], clusters: Sequence[str]) -> float:
    """Compute the clustered variance of a share over that of independent values of 0 and 1.

    Args:
        values: The observations, each from 0 to 1.
        clusters: The cluster of each of them; there are at least two, or one with a single value.
    """
    n = len(values)
    sizes = cluster_totals([1.0] * n, clusters)
    size = n / len(sizes)
    center = (sum(values) + size * ADDED) / (n + 2 * size * ADDED)
    totals = cluster_totals(values, clusters) - center * sizes
    clustered = float(totals**2 @ _correction(sizes))
    clustered += ADDED * size**2 * ((1 - center) ** 2 + center**2)
    independent = (n + 2 * size * ADDED) * center * (1 - center)
    if len(sizes) < n:
        clustered *= len(sizes) / (len(sizes) - 1)
        independent *= n / (n - 1)
    return clustered / independent
