"""Does the judge say what people say? Its labels on comparisons that have human ones, beside what no judge is needed for.

Accuracy and Cohen's kappa with bootstrap intervals over prompts (comparisons of one prompt are not independent), Brier score
and calibration error of the probabilities, agreement per principle, and the baselines that a judge has to beat: the first
answer always, the longer answer always.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cai.evaluate.statistics import expected_calibration_error, mean, reliability
from cai.records import Comparison, Preference

DRAWS = 1000


class MatchedPair(NamedTuple):
    """A comparison with the judge's and the people's probability that its first answer is the better one."""

    comparison: Comparison
    judge: float
    human: float
    principles: Mapping[str, float]  # what each principle said by itself


def matched(judged: Sequence[Preference], human: Sequence[Preference]) -> list[MatchedPair]:
    """The comparisons with a label of both kinds, whichever answer stands first; ties of people are left out."""
    people = {p.comparison.id: p.p_first for p in human} | {
        p.comparison.swap().id: 1 - p.p_first for p in human if p.p_first is not None
    }
    found = []
    for p in judged:
        said = people.get(p.comparison.id)
        if p.p_first is not None and said is not None and said != 0.5:
            found.append(
                MatchedPair(
                    p.comparison,
                    p.p_first,
                    said,
                    {r.principle: r.p_first for r in p.judgments if r.p_first is not None},
                )
            )
    return found


def agreement(rows: Sequence[MatchedPair], seed: int = 0) -> dict[str, Any]:
    """All figures of :func:`matched` rows; ``beats_baselines`` compares the lower end of the accuracy's interval.

    Without rows that is ``{"n": 0}``; ``kappa`` is left out where it is not defined.
    """
    if not rows:
        return {"n": 0}
    accuracy = clustered(rows, lambda part: mean([_right(row.judge, row) for row in part]), seed)
    agreed = clustered(rows, kappa, seed)
    baselines = {
        "first": mean([_right(1.0, row) for row in rows]),
        "longer": mean([_right(_longer(row.comparison), row) for row in rows]),
    }
    truth = [float(row.human > 0.5) for row in rows]
    said = [row.judge for row in rows]
    bins = reliability(said, truth)
    best = max([0.5, *(max(value, 1 - value) for value in baselines.values())])
    return {
        "n": len(rows),
        "accuracy": accuracy,
        **({"kappa": agreed} if agreed else {}),
        "baselines": baselines,
        "beats_baselines": accuracy is not None and accuracy["low"] > best,
        "brier": mean([(p - t) ** 2 for p, t in zip(said, truth, strict=True)]),
        "ece": expected_calibration_error(bins),
        "calibration": [bin_._asdict() for bin_ in bins],
        "principles": by_principle(rows),
    }


def kappa(rows: Sequence[MatchedPair]) -> float | None:
    """Cohen's kappa of the two verdicts; undecided judgements are counted as half of each.

    None where it is not defined, because both always name the same side.
    """
    judge, human = (
        mean([_side(row.judge) for row in rows]),
        mean([_side(row.human) for row in rows]),
    )
    chance = judge * human + (1 - judge) * (1 - human)
    return (
        (mean([_right(row.judge, row) for row in rows]) - chance) / (1 - chance)
        if chance < 1
        else None
    )


def clustered(
    rows: Sequence[MatchedPair], figure: Callable[[Sequence[MatchedPair]], float | None], seed: int
) -> dict[str, float] | None:
    """A figure with its 95 % bootstrap interval, prompts drawn with all their comparisons; None where it is not defined.

    Draws for which it is not defined are left out of the interval.
    """
    value = figure(rows)
    if value is None:
        return None
    clusters: dict[str, list[MatchedPair]] = defaultdict(list)
    for row in rows:
        clusters[row.comparison.prompt.id].append(row)
    groups, rng = list(clusters.values()), random.Random(seed)
    drawn = (
        figure([row for group in rng.choices(groups, k=len(groups)) for row in group])
        for _ in range(DRAWS)
    )
    draws = sorted(found for found in drawn if found is not None)
    low, high = (draws[round(share * (len(draws) - 1))] for share in (0.025, 0.975))
    return {"value": value, "low": low, "high": high, "n": len(rows)}


def by_principle(rows: Sequence[MatchedPair]) -> dict[str, dict[str, float]]:
    """Per principle: readings, and how often it agrees with people where it is further than 0.1 from one half."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, p in row.principles.items():
            if abs(p - 0.5) >= 0.1:
                found[name].append(_right(p, row))
    return {name: {"n": len(right), "agrees": mean(right)} for name, right in sorted(found.items())}


def _side(p: float) -> float:
    return 0.5 if p == 0.5 else float(p > 0.5)


def _right(p: float, row: MatchedPair) -> float:
    return 0.5 if p == 0.5 else float((p > 0.5) == (row.human > 0.5))


def _longer(comparison: Comparison) -> float:
    first, second = len(comparison.first.split()), len(comparison.second.split())
    return 0.5 if first == second else float(first > second)
