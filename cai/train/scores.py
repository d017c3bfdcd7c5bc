"""Where a policy's reward comes from: a reward model, several of them, or any functions of token ids, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cai import config
from cai.models.chat import ChatFormat
from cai.models.load import fingerprint, reads_alike
from cai.models.scalar import load_scalar_model
from cai.train.batches import ANY_LENGTH, Answered, tokenize
from cai.train.reward import score_rows
from cai.train.rollout import Score
from cai.train.texts import Texts

Combine = Literal["mean", "least", "unsure"]
"""Of several models: their mean, the least of them, or the mean less their deviation (arXiv 2310.02743, section 3.3)."""


def reward_scorer(reward_name: str, combine: Combine = "mean", texts: Texts | None = None) -> Score:
    """Scores by a reward model, or by all members of an ensemble.

    It reads the policy's own tokens where it would write the same; where its tokenizer or template is another, it reads the
    ``texts`` that the tokens stand for. Without ``texts`` the tokens are taken to be its own.
    """
    members = [one_scorer(name, texts) for name in members_of(reward_name)]
    return members[0] if len(members) == 1 else Ensemble(members, combine)


class Guard(NamedTuple):
    """A second score, and the bound that its mean is to be held at or above."""

    score: Score
    least: float
    made_from: str = ""  # what identifies the score, to one who goes on after a kill


def guard_of(asked: config.Guard, base: Path, texts: Texts | None = None) -> Guard | None:
    """The guard that a file asks for, its folder relative to ``base``."""
    if not asked.model:
        return None
    name = str(base / asked.model)
    return Guard(reward_scorer(name, texts=texts), asked.least, fingerprint(name))


def members_of(reward_name: str) -> list[str]:
    """The folders of a reward model and of the other members of its ensemble."""
    return [reward_name, *(str(path) for path in sorted(Path(reward_name).glob("member-*")))]


def one_scorer(reward_name: str, texts: Texts | None = None) -> Score:
    """Scores by one reward model, likewise."""
    scalar = load_scalar_model(reward_name)

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return score_rows(scalar, [Answered(p, a) for p, a in zip(prompts, answers, strict=True)])

    if texts is None or reads_alike(texts.tokenizer, scalar.tokenizer):
        return score
    chat, said = ChatFormat(scalar.tokenizer, texts.style), texts

    def score_as_text(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        rows = [
            tokenize(chat, prompt, text, ANY_LENGTH, ended=said.ended(answer))
            for (prompt, text), answer in zip(said(prompts, answers), answers, strict=True)
        ]
        return score_rows(scalar, [row for row in rows if row])

    return score_as_text


class Ensemble:
    """Several scores as one; ``spread`` is their mean deviation from each other in the last batch, which grows where they guess."""

    def __init__(self, members: Sequence[Score], combine: Combine = "mean") -> None:
        self.members, self.combine, self.spread = members, combine, 0.0

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        scores = torch.stack([member(prompts, answers) for member in self.members])
        deviation = scores.std(0, unbiased=False)
        self.spread = float(deviation.mean())
        if self.combine == "least":
            return scores.amin(0)
        return scores.mean(0) - (deviation if self.combine == "unsure" else 0.0)


def mixed(parts: Mapping[Score, float]) -> Score:
    """The weighted sum of several scores."""

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return torch.stack([weight * part(prompts, answers) for part, weight in parts.items()]).sum(0)

    return score


def length_cost(per_token: float, free: int = 0) -> Score:
    """A price for every token beyond ``free``, to be mixed with a reward that likes long answers."""

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return -per_token * torch.tensor([max(0.0, float(len(answer) - free)) for answer in answers])

    return score
