"""How far the people who labeled a run agree with the judge and with each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from cai.evaluate.agreement import MatchedPair
from cai.evaluate.judge_agreement import krippendorff_alpha, pair_agreement
from cai.feedback.panel import one_per_principle
from cai.records import Preference

MAX_RATERS = 20
"""Raters whose pairs are listed: those with the most labels."""


class Question(NamedTuple):
    """What raters were asked.

    Attributes:
        pair: Id of the comparison.
        principle: Id of the principle that they were asked by; empty for a label overall.
    """

    pair: str
    principle: str


class Raters(NamedTuple):
    """The agreement of raters.

    Attributes:
        labels: The number of labels of each rater, the most first.
        alpha: Krippendorff's alpha of all raters; None where it is not defined.
        pairs: For two ``raters`` each their ``agreement`` and ``kappa``, left out where it is not
            defined. Raters without a common question are left out.
        differ: What raters answer differently: 1 for the first answer, 0 for the second, one half
            for neither, by rater.
    """

    labels: dict[str, int]
    alpha: float | None
    pairs: list[dict[str, Any]]
    differ: dict[Question, dict[str, float]]


def compare_raters(rows: Iterable[Mapping[str, Any]]) -> Raters:
    """Measure the agreement of raters, by the definitions of :mod:`cai.evaluate`.

    Labels of one comparison by different principles are answers to different questions.

    Args:
        rows: The labels, from :class:`~cai.studio.labels.LabelFile`.
    """
    answers: dict[Question, dict[str, float]] = defaultdict(dict)
    for row in rows:
        question = Question(row["pair"], row.get("principle", ""))
        answers[question][row["rater"]] = float(row["p_first"])
    units = list(answers.values())
    labels = dict(Counter(rater for unit in units for rater in unit).most_common())
    pairs = [
        {"raters": two, **pair_agreement(units, *two)}
        for two in combinations(list(labels)[:MAX_RATERS], 2)
    ]
    return Raters(
        labels=labels,
        alpha=krippendorff_alpha(units),
        pairs=[pair for pair in pairs if pair["agreement"]["n"]],
        differ={q: unit for q, unit in answers.items() if len(set(unit.values())) > 1},
    )


def judged_by(record: Preference, principle: str) -> float | None:
    """The judge's probability that the first answer is better; None if it gave none.

    Args:
        record: The judge's label.
        principle: Id of the principle to judge by; empty for the label itself.
    """
    if not principle:
        return record.p_first
    judgments = one_per_principle(record).judgments
    return next((one.p_first for one in judgments if one.principle == principle), None)


def beside_judge(
    records: Iterable[Preference], own: Mapping[str, Mapping[str, Any]], principle: str = ""
) -> list[MatchedPair]:
    """Match the labels of a rater with the judge's, as ``cai.evaluate`` does: without ties.

    Args:
        records: The judge's labels.
        own: The labels of the rater by the id of the comparison.
        principle: The principle that the rater was asked by; empty: the labels overall.
    """
    pairs = []
    for record in records:
        judged, p_first = judged_by(record, principle), own[record.comparison.id]["p_first"]
        if judged is not None and p_first != 0.5:
            pairs.append(MatchedPair(record.comparison, judged, p_first, {}))
    return pairs
