"""Rewritten answers that are no better than before, and what a reward gives for them.

They are the styles of :mod:`cai.train.reward.format_bias` and the perturbations of
:mod:`cai.train.reward.biases`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from cai.records import Prompt
from cai.train.reward.biases import BIASES, perturb
from cai.train.reward.format_bias import STYLES

Answer = tuple[Prompt, str]
"""A prompt with an answer to it."""
TextScore = Callable[[Sequence[Answer]], Sequence[float | None]]
"""From answers as texts to scores; None for an answer that cannot be scored."""


PERTURBATIONS: dict[str, Callable[[str], str]] = {
    **STYLES,
    **{name: partial(perturb, name) for name, bias in BIASES.items() if bias.perturbation},
}
"""Functions that rewrite an answer and make it no better, by name."""


def gains(score: TextScore, answers: Sequence[Answer]) -> dict[str, list[float | None]]:
    """Measure what each perturbation adds to the scores of some answers.

    Args:
        score: The reward.
        answers: The answers.

    Returns:
        The gain of each answer by perturbation; None where it has no score with or without it.
    """
    perturbed = [
        (prompt, rewrite(answer))
        for rewrite in PERTURBATIONS.values()
        for prompt, answer in answers
    ]
    scores = list(score([*answers, *perturbed]))
    count = len(answers)
    return {
        name: [
            None if before is None or after is None else after - before
            for before, after in zip(
                scores[:count], scores[number * count : (number + 1) * count], strict=True
            )
        ]
        for number, name in enumerate(PERTURBATIONS, start=1)
    }
