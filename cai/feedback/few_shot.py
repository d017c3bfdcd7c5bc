"""Few-shot verdicts for the judge (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai.constitution.schema import Constitution, Example, Principle
from cai.keys import draw, shuffled, uniform
from cai.records import Comparison, Prompt


class FewShotComparison(NamedTuple):
    """A comparison with the verdict on it.

    Attributes:
        comparison: The two answers.
        principle: The principle they are judged by.
        letter: The letter of the better answer, ``A`` or ``B``.
    """

    comparison: Comparison
    principle: Principle
    letter: str


def few_shot_comparisons(
    constitution: Constitution, count: int, seed: int = 0
) -> tuple[FewShotComparison, ...]:
    """Draw few-shot verdicts, the same for all comparisons, so that a judge reads them once.

    The correct letter alternates between A and B.

    Args:
        constitution: The constitution whose principles' examples are used. A principle is drawn by
            weight for each verdict.
        count: Number of verdicts. There are fewer if the principles have fewer examples.
        seed: Random seed of the draws.
    """
    weights = constitution.used_for("judge")
    unused = {
        name: shuffled(constitution.principles[name].examples, seed, "shots", name)
        for name in weights
    }
    first_is_a = uniform(seed, "shots") >= 0.5
    few_shot: list[FewShotComparison] = []
    while len(few_shot) < count and any(unused.values()):
        name = draw(_with_examples(weights, unused), seed, "shots", len(few_shot))
        example = unused[name].pop()
        is_even = len(few_shot) % 2 == 0
        letter = "A" if is_even == first_is_a else "B"
        few_shot.append(_verdict(constitution.principles[name], example, letter))
    return tuple(few_shot)


def without_same_prompt(
    few_shot: Sequence[FewShotComparison], comparison: Comparison
) -> list[FewShotComparison]:
    """Leave out the verdicts that would give away the answer: those on the same prompt.

    Args:
        few_shot: The verdicts.
        comparison: The comparison that a judge is asked about.
    """
    text = comparison.prompt.text
    return [example for example in few_shot if example.comparison.prompt.text not in text]


def _with_examples(
    weights: Mapping[str, float], unused: Mapping[str, Sequence[Example]]
) -> dict[str, float]:
    return {name: weights[name] for name, examples in unused.items() if examples}


def _verdict(principle: Principle, example: Example, letter: str) -> FewShotComparison:
    comparison = Comparison.of(Prompt.of(example.prompt), example.better, example.worse)
    if letter == "B":
        comparison = comparison.swap()
    return FewShotComparison(comparison, principle, letter)
