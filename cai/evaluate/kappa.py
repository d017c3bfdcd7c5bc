"""Agreement of two judges on the same pairs, as a rate and beyond chance, clustered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cai.evaluate.bootstrap import DRAWS, percentiles
from cai.evaluate.intervals import cluster_totals, clustered_share


def verdict(p_first: float) -> float:
    """Return which answer a probability chooses: 1 the first, 0 the second, one half neither."""
    return 0.5 if p_first == 0.5 else float(p_first > 0.5)


def same(first: float, second: float) -> float:
    """Return how far two verdicts agree: one half if only one of them chooses an answer."""
    return 1 - abs(verdict(first) - verdict(second))


def rate(values: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    """Return a rate with its clustered interval as files store it.

    Args:
        values: The observations, from 0 to 1.
        clusters: The cluster of each of them.

    Returns:
        The fields of :class:`~cai.evaluate.intervals.Estimate`, or ``{"n": 0}`` without data.
    """
    return clustered_share(values, clusters)._asdict() if values else {"n": 0}


def agreement_rate(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str]
) -> dict[str, Any]:
    """Measure how often two series of verdicts agree.

    Args:
        first: Probabilities of the first answer, by one judge.
        second: Those by the other one.
        clusters: The cluster of each pair of answers.
    """
    return rate([same(a, b) for a, b in zip(first, second, strict=True)], clusters)


def cohens_kappa(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Compute Cohen's kappa of two series of verdicts, with a bootstrap interval over clusters.

    An undecided verdict counts as half of each.

    Args:
        first: Probabilities of the first answer, by one judge.
        second: Those by the other one.
        clusters: The cluster of each pair of answers.
        seed: Random seed of the bootstrap.

    Returns:
        ``value``, ``low``, ``high``, ``n`` and ``clusters``; only ``n`` where kappa is not defined,
        because both always choose the same side. Draws in which it is not defined are left out.
    """
    pairs = list(zip(first, second, strict=True))
    rows = [(1.0, same(a, b), verdict(a), verdict(b)) for a, b in pairs]
    if not rows or (value := _kappa(np.sum(rows, axis=0))) is None:
        return {"n": len(rows)}
    totals = cluster_totals(np.array(rows), clusters)
    count, rng = len(totals), np.random.default_rng(seed)
    # how often each cluster is drawn; only the sums over clusters matter
    drawn = (rng.multinomial(count, [1 / count] * count) @ totals for _ in range(DRAWS))
    draws = [kappa for sums in drawn if (kappa := _kappa(sums)) is not None]
    low, high = percentiles(draws, count)
    return {"value": value, "low": low, "high": high, "n": len(rows), "clusters": count}


def _kappa(sums: Sequence[float] | np.ndarray[Any, Any]) -> float | None:
    """Kappa of a number of pairs, how many of them agree, and how many each side chooses first."""
    n, agreeing, first, second = map(float, sums)
    chance = (first * second + (n - first) * (n - second)) / n**2
    return None if chance >= 1 else (agreeing / n - chance) / (1 - chance)
