"""Worked verdicts that a judge reads before the real question (arXiv 2212.08073, section 4.1): the principles' own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cai.constitution.schema import Constitution, Principle
from cai.keys import draw, shuffled, uniform
from cai.records import Comparison, Prompt


class FewShotComparison(NamedTuple):
    """A comparison, the principle it is judged by, and the letter of the better answer."""

    comparison: Comparison
    principle: Principle
    letter: str


def few_shot_comparisons(
    constitution: Constitution, count: int, seed: int = 0
) -> tuple[FewShotComparison, ...]:
    """``count`` examples, each of a principle that is drawn for it by weight; fewer where there are no more.

    They are the same for all comparisons, so that a judge reads them once. As often A is right as B.
    """
    weights = constitution.used_for("judge")
    left = {
        name: shuffled(constitution.principles[name].examples, seed, "shots", name)
        for name in weights
    }
    found: list[FewShotComparison] = []
    flip = uniform(seed, "shots") < 0.5
    while len(found) < count and (
        able := {name: weights[name] for name, examples in left.items() if examples}
    ):
        name = draw(able, seed, "shots", len(found))
        example = left[name].pop()
        comparison = Comparison.of(Prompt.of(example.prompt), example.better, example.worse)
        first = (len(found) % 2 == 0) != flip
        found.append(
            FewShotComparison(
                comparison if first else comparison.swap(),
                constitution.principles[name],
                "A" if first else "B",
            )
        )
    return tuple(found)


def tokenize_prompts(
    few_shot: Sequence[FewShotComparison], comparison: Comparison
) -> list[FewShotComparison]:
    """The shots that give nothing away: none that asks what the comparison asks."""
    return [shot for shot in few_shot if shot.comparison.prompt.text not in comparison.prompt.text]
