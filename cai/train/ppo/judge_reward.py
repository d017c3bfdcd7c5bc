"""The judge as PPO's reward, without a reward model in between (d-RLAIF, arXiv 2309.00267)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cai.records import Prompt
from cai.train.ppo.detokenize import Detokenizer

Rater = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""From pairs of prompt and answer to ratings; None where the judge gave none that can be read."""


class JudgeScore:
    """A :class:`~cai.train.ppo.rewards.RewardSource` that asks a judge to rate the answers.

    Args:
        detokenizer: Turns the rollout's tokens into texts.
        rate: The judge's rating of texts.
    """

    normalized = False

    def __init__(self, detokenizer: Detokenizer, rate: Rater) -> None:
        self.detokenizer = detokenizer
        self.rate = rate

    def __call__(
        self, prompts: list[list[int]], answers: list[list[int]]
    ) -> Sequence[float | None]:
        """Rate each answer; None where the rating cannot be read."""
        return self.rate(self.detokenizer(prompts, answers))

    def describe(self) -> dict[str, Any]:
        """Describe the source in JSON values that change with the judge and its principles."""
        return {"type": "judge", "identity": getattr(self.rate, "identity", "")}
