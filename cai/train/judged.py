"""The judge as PPO's reward, without a reward model between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cai.models.chat import ChatFormat
from cai.models.load import load_tokenizer
from cai.records import Prompt

Rate = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""From (prompt, answer) to a number, or None where the judge gave none."""


class JudgedScore:
    """A :data:`~cai.train.rollout.Score` that reads the tokens back as texts and asks a judge.

    An answer the judge said nothing readable about gets the mean of the others in its batch, which tells the policy nothing;
    ``unread`` counts them.
    """

    def __init__(self, prompts: Sequence[Prompt], policy: str, rate: Rate, style: str = "") -> None:
        self.tokenizer, self.rate, self.unread = load_tokenizer(policy), rate, 0
        chat = ChatFormat(self.tokenizer, style)
        self._prompts = {tuple(chat.ids(chat.prompt(prompt.messages))): prompt for prompt in prompts}

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        texts = [str(self.tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in answers]
        ratings = self.rate([(self._prompts[tuple(p)], text) for p, text in zip(prompts, texts, strict=True)])
        known = [rating for rating in ratings if rating is not None]
        self.unread += len(ratings) - len(known)
        middle = sum(known) / len(known) if known else 0.0
        return torch.tensor([middle if rating is None else rating for rating in ratings])
