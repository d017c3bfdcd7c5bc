"""Influence of each principle on the labels, by leaving it out, and conflicts between principles.

Computed from the judgments of a run alone; no model is asked. A label with one judgment is lost
when that judgment is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from cai.evaluate.statistics import mean
from cai.feedback.judge import Combine, combine_judgments
from cai.records import Preference
from cai.ties import is_near_tie


class Influence(NamedTuple):
    """The part of one principle in the labels that it was asked about.

    Attributes:
        principle: Id of the principle.
        labels: Number of labels that it was asked about.
        opinion: Share of its judgments that are not near ties.
        decides: Share of the labels on which no other judgment has an opinion.
        flips: Share of the labels that flip, or are lost, without it.
        moves: Mean distance that the label moves without it; 1 for a lost label.
    """

    principle: str
    labels: int
    opinion: float
    decides: float
    flips: float
    moves: float


class Conflict(NamedTuple):
    """Two principles that both have an opinion on the same comparisons.

    Attributes:
        one: Id of one principle.
        other: Id of the other principle.
        n: Number of comparisons.
        opposed: Share of them on which the two disagree.
    """

    one: str
    other: str
    n: int
    opposed: float


class Part(NamedTuple):
    """The part of one judgment in one label.

    Attributes:
        opinion: Whether it is no near tie.
        decides: Whether no other judgment of the label has an opinion.
        flips: Whether the label flips, or is lost, without it.
        moves: How far the label moves without it; 1 for a lost label.
    """

    opinion: bool
    decides: bool
    flips: bool
    moves: float


def influence(
    labels: Iterable[Preference], weights: Mapping[str, float], combine: Combine
) -> list[Influence]:
    """Measure what each principle contributes to the labels.

    Args:
        labels: The labels with their judgments.
        weights: The weights with which the judgments were combined; 1 for a missing principle.
        combine: How they were combined.

    Returns:
        One row for each principle, the most influential first.
    """
    parts: dict[str, list[Part]] = defaultdict(list)
    for preference in labels:
        for name, part in parts_of(preference, weights, combine):
            parts[name].append(part)
    rows = [
        Influence(
            name,
            labels=len(of_principle),
            opinion=mean([float(part.opinion) for part in of_principle]),
            decides=mean([float(part.decides) for part in of_principle]),
            flips=mean([float(part.flips) for part in of_principle]),
            moves=mean([part.moves for part in of_principle]),
        )
        for name, of_principle in parts.items()
    ]
    return sorted(rows, key=lambda row: (-row.flips, -row.moves, row.principle))


def parts_of(
    preference: Preference, weights: Mapping[str, float], combine: Combine
) -> list[tuple[str, Part]]:
    """Measure what each judgment contributes to a label.

    Args:
        preference: The label with its judgments.
        weights: As for :func:`influence`.
        combine: How they were combined.

    Returns:
        The principle and the part of each judgment with a verdict; nothing without a label.
    """
    if preference.p_first is None:
        return []
    return [
        (judgment.principle, _part(preference, i, weights, combine))
        for i, judgment in enumerate(preference.judgments)
        if judgment.p_first is not None
    ]


def _part(
    preference: Preference, index: int, weights: Mapping[str, float], combine: Combine
) -> Part:
    """Leave one judgment out of a label."""
    label, verdict = preference.p_first, preference.judgments[index].p_first
    assert label is not None
    assert verdict is not None
    rest = [judgment for i, judgment in enumerate(preference.judgments) if i != index]
    without = None
    if rest:
        rest_weights = [weights.get(judgment.principle, 1.0) for judgment in rest]
        without = combine_judgments(rest, rest_weights, combine)
    opinion = not is_near_tie(verdict)
    others = any(j.p_first is not None and not is_near_tie(j.p_first) for j in rest)
    if without is None:
        return Part(opinion, decides=opinion and not others, flips=True, moves=1.0)
    flips = not is_near_tie(label) and (label - 0.5) * (without - 0.5) <= 0
    return Part(opinion, decides=opinion and not others, flips=flips, moves=abs(label - without))


def conflicts(labels: Sequence[Preference], min_labels: int = 5) -> list[Conflict]:
    """Find principles that disagree.

    Args:
        labels: The labels with their judgments.
        min_labels: Comparisons on which both must have an opinion.

    Returns:
        One row for each pair of principles, the most opposed first.
    """
    opposed: dict[tuple[str, str], list[float]] = defaultdict(list)
    for preference in labels:
        opinions = sorted(
            (judgment.principle, judgment.p_first)
            for judgment in preference.judgments
            if judgment.p_first is not None and not is_near_tie(judgment.p_first)
        )
        for (one, p_one), (other, p_other) in combinations(opinions, 2):
            if one != other:
                opposed[one, other].append(float((p_one - 0.5) * (p_other - 0.5) < 0))
    rows = [
        Conflict(one, other, len(values), mean(values))
        for (one, other), values in opposed.items()
        if len(values) >= min_labels
    ]
    return sorted(rows, key=lambda row: (-row.opposed, -row.n, row.one, row.other))
