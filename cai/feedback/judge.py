"""``judge``: comparisons in, AI preferences out (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from cai import templates
from cai.arguments import check_model, check_choice, check_constitution, check_records
from cai.backends.protocol import Model
from cai.constitution.schema import Constitution, Principle
from cai.feedback.judge_methods import JudgeMethod, as_method, score_all
from cai.keys import digest, draw_many
from cai.records import Comparison, Judgment, Preference

Combine = Literal["mean", "sum", "vote", "together"]
MAX_HEADING_WORDS = 4
_WORD = re.compile(r"\w", re.UNICODE)


def judge(
    comparisons: Sequence[Comparison],
    constitution: Constitution,
    model: Model,
    method: JudgeMethod | str,
    *,
    principles: int = 1,
    combine: Combine = "mean",
    seed: int = 0,
) -> list[Preference]:
    """Label each comparison by ``principles`` different principles drawn by weight (0: by all of them, in turn).

    One principle per label is the paper's way. Several are joined by ``combine``: the ``mean`` of the probabilities; the
    ``sum`` of what each says against an answer, at most certainty; a ``vote``; or all are put to the judge ``together``, as
    one question. An answer that says nothing loses without the judge being asked. A comparison that no principle could
    score has no label, and the status ``unscored``. ``method`` is an object such as ``PairwiseLogprobs()``, or a name of
    :data:`~cai.feedback.judgments.JUDGE_METHODS`.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_records("comparisons", comparisons, Comparison)
    check_constitution(constitution, "judge", principles)
    check_model(model)
    check_choice("combine", combine, get_args(Combine))
    method = as_method(method, seed)
    weights = constitution.used_for("judge")
    drawn = [
        _drawn(comparison, constitution, principles, combine, seed) for comparison in comparisons
    ]
    read = iter(
        score_all(
            method,
            [
                (c, principle)
                for c, chosen in zip(comparisons, drawn, strict=True)
                for principle in chosen
            ],
            model,
        )
    )
    preferences = []
    for comparison, chosen in zip(comparisons, drawn, strict=True):
        judgments = tuple(next(read) for _ in chosen) or (_without_a_judge(comparison),)
        # a drawn principle was weighted by the draw; all principles in turn are weighted here
        importance = [
            1.0
            if principles
            else weights.get(r.principle, 1.0) * len(weights) / sum(weights.values())
            for r in judgments
        ]
        p_first = combine_judgments(judgments, importance, combine)
        preferences.append(
            Preference(
                id=digest([comparison.id, [r.model_dump(exclude={"reason"}) for r in judgments]]),
                comparison=comparison,
                p_first=p_first,
                status="ok" if p_first is not None else "unscored",
                source="ai",
                judgments=judgments,
                judge=model.fingerprint,
            )
        )
    return preferences


def _drawn(
    comparison: Comparison, constitution: Constitution, principles: int, combine: Combine, seed: int
) -> list[Principle]:
    """The principles a comparison is judged by; none where an answer says nothing."""
    if is_empty_answer(comparison.first) or is_empty_answer(comparison.second):
        return []
    weights = constitution.used_for("judge")
    found = [
        constitution.principles[name]
        for name in draw_many(weights, principles or len(weights), seed, "judge", comparison.id)
    ]
    return [merge_principles(found)] if combine == "together" and len(found) > 1 else found


def merge_principles(principles: Sequence[Principle]) -> Principle:
    """Several principles as one question."""
    compare = templates.render("together_compare", questions=[p.compare or "" for p in principles])
    critique = templates.render(
        "together_critique", requests=[p.critique or "" for p in principles]
    )
    name = " + ".join(p.id for p in principles)
    return Principle(id=name, title=name, critique=critique, compare=compare)


def is_empty_answer(text: str) -> bool:
    """Whether an answer is empty, only signs, or only a heading such as "Solution:", which judges have been seen to favour.

    See arXiv 2507.08794 on answers that win without saying anything.
    """
    text = text.strip()
    return not _WORD.search(text) or (text.endswith(":") and len(text.split()) <= MAX_HEADING_WORDS)


def _without_a_judge(comparison: Comparison) -> Judgment:
    """An answer that says nothing loses to one that says something; two of them have no label."""
    first, second = is_empty_answer(comparison.first), is_empty_answer(comparison.second)
    return Judgment(
        principle="",
        principle_hash="",
        method="says nothing",
        p_first=None if first and second else float(second),
        status="unscored" if first and second else "ok",
        reason="neither answer says anything" if first and second else "",
    )


def combine_judgments(
    judgments: Sequence[Judgment], importance: Sequence[float], combine: Combine
) -> float | None:
    """One probability from the readings that have one, or None if none has."""
    found = [
        (r.p_first, weight)
        for r, weight in zip(judgments, importance, strict=True)
        if r.p_first is not None
    ]
    if not found:
        return None
    total = sum(weight for _, weight in found)
    if combine == "mean":
        return sum(p * weight for p, weight in found) / total
    if combine == "sum":
        leaning = sum((2 * p - 1) * weight for p, weight in found)
        return (1 + min(max(leaning, -1.0), 1.0)) / 2
    votes = [(weight, 0.5 if abs(p - 0.5) < 1e-6 else float(p > 0.5)) for p, weight in found]
    return sum(weight * vote for weight, vote in votes) / total
