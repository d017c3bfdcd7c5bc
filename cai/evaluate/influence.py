"""What each principle is worth to the labels: left out, how many would turn round? And which principles fight each other?

Read from a run's readings alone; no model is asked. Where a label was read by one principle only, leaving that one out leaves
no label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from cai.evaluate.statistics import mean
from cai.feedback.judge import Combine, combine_judgments
from cai.records import Preference

CLEAR = 0.1
"""How far from one half a reading must be to say something."""


class Influence(NamedTuple):
    """A principle's part in the labels it was read for."""

    principle: str
    labels: int
    says_something: float  # share of its readings that are clear
    decided_alone: float  # share of the labels that no other reading of theirs decides
    turns: float  # share of the labels that turn round, or are lost, without it
    moves: float  # mean distance the label moves without it


class Conflict(NamedTuple):
    """Two principles that both say something about the same comparisons, and how often they say the opposite."""

    one: str
    other: str
    n: int
    opposed: float


def influence(
    labels: Sequence[Preference], weights: Mapping[str, float], combine: Combine
) -> list[Influence]:
    """One row per principle, the most telling first. ``weights`` are those the readings were joined with."""
    rows: dict[str, list[tuple[bool, bool, bool, float]]] = defaultdict(list)
    for p in labels:
        if p.p_first is None:
            continue
        for i, judgment in enumerate(p.judgments):
            if judgment.p_first is None:
                continue
            rest = [r for k, r in enumerate(p.judgments) if k != i]
            without = (
                combine_judgments(rest, [weights.get(r.principle, 1.0) for r in rest], combine)
                if rest
                else None
            )
            standalone = _clear(judgment.p_first) and not any(
                r.p_first is not None and _clear(r.p_first) for r in rest
            )
            turned = without is None or (
                _clear(p.p_first) and (p.p_first - 0.5) * (without - 0.5) <= 0
            )
            rows[judgment.principle].append(
                (
                    _clear(judgment.p_first),
                    standalone,
                    turned,
                    1.0 if without is None else abs(p.p_first - without),
                )
            )
    found = [
        Influence(
            name,
            len(seen),
            mean([float(c) for c, _, _, _ in seen]),
            mean([float(a) for _, a, _, _ in seen]),
            mean([float(t) for _, _, t, _ in seen]),
            mean([m for _, _, _, m in seen]),
        )
        for name, seen in rows.items()
    ]
    return sorted(found, key=lambda row: (-row.turns, -row.moves, row.principle))


def conflicts(labels: Sequence[Preference], least: int = 5) -> list[Conflict]:
    """Pairs of principles that were both clear about at least ``least`` comparisons, those that fight most first."""
    seen: dict[tuple[str, str], list[float]] = defaultdict(list)
    for p in labels:
        clear = sorted(
            (r.principle, r.p_first)
            for r in p.judgments
            if r.p_first is not None and _clear(r.p_first)
        )
        for (one, a), (other, b) in combinations(clear, 2):
            if one != other:
                seen[one, other].append(float((a - 0.5) * (b - 0.5) < 0))
    rows = [
        Conflict(one, other, len(found), mean(found))
        for (one, other), found in seen.items()
        if len(found) >= least
    ]
    return sorted(rows, key=lambda row: (-row.opposed, -row.n, row.one, row.other))


def _clear(p: float) -> bool:
    return abs(p - 0.5) >= CLEAR
