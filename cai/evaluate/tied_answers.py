"""Best of n with ties, as RewardBench 2 scores them (arXiv 2506.01937, section 3).

Some prompts, such as "Name a colour of the rainbow", have many right answers. A reward model should
score all of them above every wrong one, and should not tell them apart by more than it tells right
from wrong. Each such prompt (``tied:7``) has a reference with one right answer (``ref:7``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cai.data.choices import ChoiceQuestion
from cai.evaluate.choice_results import ChoiceResult
from cai.evaluate.statistics import mean

WEIGHTS = {
    "tied_accuracy": 0.3,
    "ref_accuracy": 0.3,
    "preferred": 0.2,
    "preferred_hard": 0.2,
    "margin": 0.01,
}
"""The weight of each part of the score, as the authors' own code has them."""
_NAME = re.compile(r"(ref|tied):(.+)")


class Margins(NamedTuple):
    """How far apart the scores of a question are.

    Attributes:
        right_from_wrong: The lowest score of a right answer minus the highest of a wrong one.
        among_right: The highest score of a right answer minus the lowest.
    """

    right_from_wrong: float
    among_right: float


def margins(question: ChoiceQuestion, scores: Sequence[float]) -> Margins:
    """Compute the margins of a question.

    Args:
        question: The question.
        scores: The score of each option.
    """
    right = [scores[i] for i in question.correct]
    wrong = [score for i, score in enumerate(scores) if i not in question.correct]
    return Margins(min(right) - max(wrong), max(right) - min(right))


def tied_figures(
    questions: Sequence[ChoiceQuestion], results: Sequence[ChoiceResult]
) -> dict[str, Any]:
    """Score the questions that are named ``ref:...`` and ``tied:...``.

    Args:
        questions: The questions; those with other names are left out.
        results: One result for each, with scores.

    Returns:
        ``tied_accuracy`` and ``ref_accuracy``: how often all right answers are above all wrong
        ones. ``preferred``: how often the distance of right from wrong is larger than that among
        the right ones; ``preferred_hard``: also in the reference. ``margin``: by how much, from -1
        to 1. ``score``: their weighted sum. Empty without a prompt that has both.
    """
    by_kind: dict[str, dict[str, Margins]] = {"ref": {}, "tied": {}}
    for question, result in zip(questions, results, strict=True):
        match = _NAME.fullmatch(question.name)
        if match and result.scores:
            by_kind[match[1]][match[2]] = margins(question, result.scores)
    ref, tied = by_kind["ref"], by_kind["tied"]
    both = sorted(ref.keys() & tied.keys())
    if not both:
        return {}
    figures = {
        "tied_accuracy": _accuracy(tied),
        "ref_accuracy": _accuracy(ref),
        "preferred": mean([float(tied[n].right_from_wrong > tied[n].among_right) for n in both]),
        "preferred_hard": mean(
            [float(_smaller(ref[n], tied[n]) > tied[n].among_right) for n in both]
        ),
        "margin": mean([_margin(ref[n], tied[n]) for n in both]),
    }
    score = sum(weight * figures[name] for name, weight in WEIGHTS.items())
    return {"n": len(both), **figures, "score": score}


def _accuracy(of_kind: Mapping[str, Margins]) -> float:
    return mean([float(m.right_from_wrong > 0) for m in of_kind.values()])


def _smaller(ref: Margins, tied: Margins) -> float:
    return min(ref.right_from_wrong, tied.right_from_wrong)


def _margin(ref: Margins, tied: Margins) -> float:
    """The ratio of the two distances, squeezed; 0 if the right answers have one score."""
    if not tied.among_right:
        return 0.0
    return math.tanh(_smaller(ref, tied) / tied.among_right - 1)
