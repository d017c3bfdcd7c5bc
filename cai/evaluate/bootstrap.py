"""Bootstrap intervals: conversations are drawn with replacement, with all that belongs to them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from cai.evaluate.intervals import Array, Estimate, degrees_of_freedom
from cai.evaluate.statistics import t95

T = TypeVar("T")
DRAWS = 1000


def resamples(count: int, seed: int, draws: int = DRAWS) -> Iterator[list[int]]:
    """Draw clusters with replacement, as many as there are.

    Args:
        count: Number of clusters.
        seed: Random seed.
        draws: How often they are drawn.
    """
    rng = random.Random(seed)
    for _ in range(draws):
        yield rng.choices(range(count), k=count)


def bootstrap(
    items: Sequence[T],
    clusters: Sequence[str],
    statistic: Callable[[Sequence[T]], float | None],
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate | None:
    """Compute a statistic with its bootstrap percentile interval, drawing whole clusters.

    Args:
        items: The observations.
        clusters: The cluster of each of them.
        statistic: A function of observations; None where it is not defined.
        seed: Random seed of the draws.
        draws: How often the clusters are drawn.

    Returns:
        None if the statistic is not defined. Draws for which it is not are left out.
    """
    value = statistic(items)
    if value is None:
        return None
    members: dict[str, list[T]] = {}
    for item, cluster in zip(items, clusters, strict=True):
        members.setdefault(cluster, []).append(item)
    groups = list(members.values())
    values = []
    for drawn in resamples(len(groups), seed, draws):
        of_draw = statistic([item for i in drawn for item in groups[i]])
        if of_draw is not None:
            values.append(of_draw)
    low, high = percentiles(values, degrees_of_freedom(clusters))
    return Estimate(value, low, high, len(items), len(groups))


def percentiles(values: Sequence[float] | Array, degrees: float) -> tuple[float, float]:
    """Return the ends of a bootstrap interval.

    The percentiles are expanded for a small number of clusters (Hesterberg 2015), as much as
    Student's t is wider than the normal distribution.

    Args:
        values: The statistic in each draw.
        degrees: Degrees of freedom of the clusters that were drawn from.
    """
    ordered = sorted(map(float, values))
    below = max(math.floor(tail(degrees) * (len(ordered) + 1)) - 1, 0)
    return ordered[below], ordered[len(ordered) - 1 - below]


@lru_cache(maxsize=256)
def tail(degrees: float) -> float:
    """Return the share of bootstrap draws beyond each end of a 95 % interval.

    Args:
        degrees: Degrees of freedom of the clusters that are drawn from; 0 of a single one.
    """
    if not degrees:
        return 0.0
    return math.erfc(t95(degrees) * math.sqrt((degrees + 1) / degrees / 2)) / 2
