"""A reward source with a known bias, to study how a policy exploits it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import (
    ScoreFunction,
    begin_update,
    describe,
    is_normalized,
    score_answers,
    source_metrics,
)
from cai.train.reward.biases import BIASES, bias_score


class BiasedScore:
    """The score of any reward source, plus a bias of known strength.

    Args:
        source: The reward source: a reward model, a judge, or a function.
        detokenizer: Turns the rollout's tokens into texts.
        bias: Name of the bias.
        strength: What a bias score of 1 adds to the score of an answer.
    """

    def __init__(
        self, source: ScoreFunction, detokenizer: Detokenizer, bias: str, strength: float
    ) -> None:
        self.source = source
        self.detokenizer = detokenizer
        self.bias = bias
        self.strength = strength
        self.normalized = is_normalized(source)

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        """Score each answer: ``[B]``, NaN where the source gives no score."""
        scores = score_answers(self.source, prompts, answers)
        known = torch.tensor([float("nan") if score is None else score for score in scores])
        return known + self.strength * torch.tensor(self._biases(prompts, answers))

    def _biases(self, prompts: list[list[int]], answers: list[list[int]]) -> list[float]:
        seen: set[tuple[int, ...]] = set()
        biases = []
        texts = [text for _, text in self.detokenizer(prompts, answers)]
        for ids, text in zip(prompts, texts, strict=True):
            is_first = tuple(ids) not in seen
            seen.add(tuple(ids))
            biases.append(bias_score(self.bias, text, is_first=is_first))
        return biases

    def begin_update(self, update: int) -> None:
        """Pass the number of the update on."""
        begin_update(self.source, update)

    def metrics(self) -> dict[str, float]:
        """What the source measured in the last call."""
        return source_metrics(self.source)

    def describe(self) -> dict[str, Any]:
        """Describe the source in JSON values."""
        added = {"bias": self.bias, "strength": self.strength}
        return {"type": "biased", **added, **BIASES[self.bias].model_dump()} | {
            "source": describe(self.source)
        }
