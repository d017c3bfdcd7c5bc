"""The judge as PPO's reward, without a reward model between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cai.records import Prompt
from cai.train.ppo.detokenize import Detokenizer

Rater = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""From (prompt, answer) to a number, or None where the judge gave none."""


class JudgedScore:
    """A :class:`~cai.train.ppo.rewards.Score` that reads the tokens back as texts and asks a judge.

    An answer about which the judge said nothing readable has no score.
    """

    normalised = False

    def __init__(self, texts: Detokenizer, rate: Rater) -> None:
        self.texts, self.rate = texts, rate

    def __call__(
        self, prompts: list[list[int]], answers: list[list[int]]
    ) -> Sequence[float | None]:
        return self.rate(self.texts(prompts, answers))
