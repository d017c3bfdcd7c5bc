"""The judge as PPO's reward, without a reward model between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cai.records import Prompt
from cai.train.texts import Texts

Rate = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""From (prompt, answer) to a number, or None where the judge gave none."""


class JudgedScore:
    """A :data:`~cai.train.rollout.Score` that reads the tokens back as texts and asks a judge.

    An answer the judge said nothing readable about gets the mean of the others in its batch, which tells the policy nothing;
    ``unread`` counts them.
    """

    def __init__(self, texts: Texts, rate: Rate) -> None:
        self.texts, self.rate, self.unread = texts, rate, 0

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        ratings = self.rate(self.texts(prompts, answers))
        known = [rating for rating in ratings if rating is not None]
        self.unread += len(ratings) - len(known)
        middle = sum(known) / len(known) if known else 0.0
        return torch.tensor([middle if rating is None else rating for rating in ratings])
