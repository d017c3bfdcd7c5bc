"""How much length decides: the slope of verdicts on the difference in length, in log-odds.

Beside it is the slope of people's labels of the same pairs. Longer answers may be better ones; what
a judge adds to the liking of people is its bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cai.evaluate.agreement import MatchedPair
from cai.evaluate.intervals import (
    Array,
    clustered_variance,
    conversation,
    degrees_of_freedom,
)
from cai.evaluate.kappa import verdict
from cai.evaluate.length_control import fit
from cai.evaluate.statistics import t95
from cai.records import Comparison
from cai.words import words


def doublings(comparison: Comparison) -> float:
    """Return by how many doublings of its words the first answer is longer than the second one."""
    first, second = len(words(comparison.first)), len(words(comparison.second))
    return math.log2((first + 1) / (second + 1))


def length_slopes(pairs: Sequence[MatchedPair]) -> dict[str, Any]:
    """Measure the slope of a judge and of people, by logistic regression.

    Args:
        pairs: Comparisons with both kinds of label.

    Returns:
        The log-odds per doubling of the length of the ``judge``, of ``people``, and the
        ``difference``, with clustered intervals. What cannot be measured has only ``n``.
    """
    comparisons = [pair.comparison for pair in pairs]
    of_judge = _influence(comparisons, [verdict(pair.judge) for pair in pairs])
    of_people = _influence(comparisons, [verdict(pair.human) for pair in pairs])
    nothing = {"n": len(pairs)}
    slopes = {
        "judge": _estimate(*of_judge, comparisons) if of_judge else nothing,
        "people": _estimate(*of_people, comparisons) if of_people else nothing,
        "difference": nothing,
    }
    if of_judge and of_people:
        value, influence = of_judge[0] - of_people[0], of_judge[1] - of_people[1]
        slopes["difference"] = _estimate(value, influence, comparisons)
    return slopes


def length_slope(comparisons: Sequence[Comparison], verdicts: Sequence[float]) -> dict[str, Any]:
    """Measure the slope of verdicts on the difference in length.

    Args:
        comparisons: The pairs of answers.
        verdicts: For each of them 1 if the first answer wins, 0, or one half.

    Returns:
        The log-odds per doubling of the length with a clustered interval; only ``n`` if all
        verdicts are for one side, all pairs differ equally in length, or all are of one
        conversation.
    """
    found = _influence(comparisons, verdicts)
    return _estimate(*found, comparisons) if found else {"n": len(comparisons)}


def _influence(
    comparisons: Sequence[Comparison], verdicts: Sequence[float]
) -> tuple[float, Array] | None:
    """The slope, and how much each pair moves it; None if there is no slope."""
    longer = np.array([doublings(comparison) for comparison in comparisons])
    observed = np.array(verdicts)
    several = len({conversation(comparison.prompt) for comparison in comparisons}) > 1
    if not several or observed.min() == observed.max() != 0.5 or not np.ptp(longer):
        return None
    design = np.stack([np.ones(len(longer)), longer], axis=1)
    coefficients, information = fit(design, observed)
    expected = 1 / (1 + np.exp(-design @ coefficients))
    influence = design * (observed - expected)[:, None] @ np.linalg.inv(information)
    return float(coefficients[1]), influence[:, 1]


def _estimate(value: float, influence: Array, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    clusters = [conversation(comparison.prompt) for comparison in comparisons]
    count = len(set(clusters))
    error = math.sqrt(float(clustered_variance(influence, clusters)))
    half = t95(degrees_of_freedom(clusters)) * error
    low, high = value - half, value + half
    return {"value": value, "low": low, "high": high, "n": len(clusters), "clusters": count}
