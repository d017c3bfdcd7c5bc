"""The result of an experiment over its seeds: means with intervals, and whether findings show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai.paper.experiment import Finding
from cai.paper.measures import Point

T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Quantiles of Student's t for two-sided 95 % intervals, for 1 to 10 degrees of freedom."""


class Interval(NamedTuple):
    """A mean over seeds with its 95 % interval.

    Attributes:
        mean: The mean.
        half: Half of the width of the interval, by Student's t; infinite with one seed.
        n: Number of seeds.
    """

    mean: float
    half: float
    n: int


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent values with its 95 % interval.

    Args:
        values: One value for each seed, at least one.
    """
    n = len(values)
    if n == 1:
        return Interval(values[0], math.inf, 1)
    quantile = T95[min(n - 1, len(T95)) - 1]
    return Interval(statistics.fmean(values), quantile * statistics.stdev(values) / math.sqrt(n), n)


Cells = dict[str, dict[str, list[float]]]
"""The values of all seeds by series and place on the x axis."""


def cells(by_seed: Mapping[int, Sequence[Point]]) -> Cells:
    """Gather the values of all seeds.

    Args:
        by_seed: The points of each seed.

    Returns:
        The values by series and x, in the order in which they come.
    """
    gathered: Cells = {}
    for points in by_seed.values():
        for point in points:
            gathered.setdefault(point.series, {}).setdefault(point.x, []).append(point.value)
    return gathered


def difference(finding: Finding, by_seed: Mapping[int, Sequence[Point]]) -> Interval | None:
    """Return the difference that a finding is about, paired by seed.

    Args:
        finding: The finding.
        by_seed: The points of each seed.

    Returns:
        The mean difference; None if no seed has both values.
    """
    differences = []
    for points in by_seed.values():
        values = {p.x: p.value for p in points if p.series == finding.series}
        if finding.more in values and finding.less in values:
            differences.append(values[finding.more] - values[finding.less])
    return interval(differences) if differences else None


def verdict(finding: Finding, by_seed: Mapping[int, Sequence[Point]]) -> str:
    """Say whether a finding shows, in one sentence.

    Args:
        finding: The finding.
        by_seed: The points of each seed.
    """
    found = difference(finding, by_seed)
    if found is None:
        return f"**Not measured:** {finding.says}"
    low, high = found.mean - found.half, found.mean + found.half
    if finding.within is not None:
        shows = -finding.within <= low and high <= finding.within
        refuted = low > finding.within or high < -finding.within
        opposite = "Does not show"
    else:
        shows, refuted, opposite = low > 0, high < 0, "The opposite shows"
    word = "Shows" if shows else opposite if refuted else "Not decided"
    amount = f"{found.mean:+.2f}"
    width = f" ± {found.half:.2f}" if math.isfinite(found.half) else ""
    pair = f"{finding.series}, {finding.more} minus {finding.less}"
    return f"**{word}:** {finding.says} ({pair}: {amount}{width}, {found.n} seeds)"
