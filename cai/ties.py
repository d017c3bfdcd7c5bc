"""When a probability counts as a tie: the thresholds that the whole package shares."""

from __future__ import annotations

NEAR_TIE = 0.1
"""Distance from one half below which a label or a verdict chooses neither answer."""
UNDECIDED = 1e-6
"""The same below which a verdict counts for neither answer; it is no more than rounding."""
IRRELEVANT_TIE = (0.35, 0.65)
"""Range of a verdict by a principle that does not tell the two answers apart."""


def vote(p_first: float) -> float:
    """Return the verdict of a probability: 1, 0, or one half if it is exactly undecided."""
    return 0.5 if abs(p_first - 0.5) < UNDECIDED else float(p_first > 0.5)


def is_near_tie(p_first: float) -> bool:
    """Return whether a probability chooses neither answer."""
    return abs(p_first - 0.5) < NEAR_TIE


def is_irrelevant_tie(p_first: float) -> bool:
    """Return whether a verdict treats its principle as irrelevant to the two answers."""
    low, high = IRRELEVANT_TIE
    return low <= p_first <= high
