"""Where a policy's reward comes from: a reward model, several of them, or any functions of token ids, mixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from cai import config
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.load import fingerprint, same_tokenization
from cai.models.names import find_model
from cai.models.scalar import load_scalar_model
from cai.rl.masked import masked_mean
from cai.train.batching import ANY_LENGTH, TokenizedExample, tokenize
from cai.train.ppo.detokenize import Detokenizer
from cai.train.reward.scoring import score_rows

if TYPE_CHECKING:
    from cai.train.ppo.rollout import Rollout

Combine = Literal["mean", "min", "lower_confidence"]
"""Of several models: their mean, the least of them, or the mean less their deviation (arXiv 2310.02743, section 3.3)."""
SCORE_CLIP = 10.0
"""Normalised scores are clipped to this many deviations of the reward model's training answers."""
ScoreFunction = Callable[[list[list[int]], list[list[int]]], Tensor | Sequence[float | None]]
"""From prompt token ids and answer token ids (stop token included) to a score ``[B]`` per answer. None, or in a tensor NaN, is for
an answer that cannot be scored; nothing is learnt from it."""


class Score(Protocol):
    """A score function that says on which scale its scores are."""

    @property
    def normalised(self) -> bool:
        """Whether scores have mean 0 and deviation 1 over the answers that a reward model was trained on."""

    def __call__(
        self, prompts: list[list[int]], answers: list[list[int]]
    ) -> Tensor | Sequence[float | None]: ...


def is_normalised(score: ScoreFunction) -> bool:
    """Whether a score is on the scale of a reward model's training answers; of a plain function this is not known."""
    return bool(getattr(score, "normalised", False))


def values_of(
    score: ScoreFunction, prompts: list[list[int]], answers: list[list[int]]
) -> list[float | None]:
    """The score of each answer; None where there is none, or no finite number.

    Raises:
        InputError: if there are not as many scores as answers.
    """
    found = score(prompts, answers)
    values = found.flatten().tolist() if isinstance(found, Tensor) else list(found)
    if len(values) != len(answers):
        raise InputError(
            f"the score function returned {len(values)} scores for {len(answers)} answers; it must score each of them"
        )
    return [None if value is None or not math.isfinite(value) else float(value) for value in values]


def clip_of(score: ScoreFunction, config: config.PPO) -> float | None:
    """The bound that scores are clipped to: what ``ppo.score_clip`` says, else that of normalised scores, else none."""
    return config.rollout.score_clip or (SCORE_CLIP if is_normalised(score) else None)


@dataclass
class ScoreScale:
    """Brings the scores of one function to where PPO can start from.

    Scores that are not normalised may lie anywhere. A constant is taken off them, so that in the first update their mean is what
    the value model expects; every answer has one score, so a constant changes nothing about which policy is best.
    """

    clip: float | None
    offset: float | None  # None: not measured yet

    @classmethod
    def of(cls, score: ScoreFunction, config: config.PPO) -> ScoreScale:
        return cls(clip_of(score, config), 0.0 if is_normalised(score) else None)

    def apply(self, scores_B: Tensor, rollout: Rollout) -> Tensor:
        """Clip the scores of a rollout and take the constant off them."""
        clipped = scores_B if self.clip is None else scores_B.clamp(-self.clip, self.clip)
        if self.offset is None and rollout.scored.any():
            self.offset = float(
                clipped[rollout.scored].mean() - masked_mean(rollout.values, rollout.mask)
            )
        return clipped - (self.offset or 0.0)


def reward_scorer(
    reward_name: str, combine: Combine = "mean", texts: Detokenizer | None = None
) -> Score:
    """Scores by a reward model, or by all members of an ensemble.

    It reads the policy's own tokens where it would write the same; where its tokenizer or template is another, it reads the
    ``texts`` that the tokens stand for. Without ``texts`` the tokens are taken to be its own.
    """
    members = [RewardModelScore(name, texts) for name in ensemble_paths(reward_name)]
    return members[0] if len(members) == 1 else Ensemble(members, combine)


class ConstraintReward(NamedTuple):
    """A second score, and the bound that its mean is to be held at or above."""

    score: ScoreFunction
    min: float
    made_from: str = ""  # what identifies the score, to one who goes on after a kill


def load_constraint(
    asked: config.Constraint, base: Path, texts: Detokenizer | None = None
) -> ConstraintReward | None:
    """The guard that a file asks for, its folder relative to ``base``."""
    if not asked.model:
        return None
    name = find_model(asked.model, base)
    return ConstraintReward(reward_scorer(name, texts=texts), asked.min, fingerprint(name))


def ensemble_paths(reward_name: str) -> list[str]:
    """The folders of a reward model and of the other members of its ensemble."""
    return [reward_name, *(str(path) for path in sorted(Path(reward_name).glob("member-*")))]


class RewardModelScore:
    """Scores by one reward model; ``texts`` as in :func:`reward_scorer`."""

    def __init__(self, reward_name: str, texts: Detokenizer | None = None) -> None:
        self.scalar = load_scalar_model(reward_name)
        self.normalised = all(
            hasattr(self.scalar.model.config, name) for name in ("reward_mean", "reward_std")
        )
        self.texts = (
            None
            if texts is None or same_tokenization(texts.tokenizer, self.scalar.tokenizer)
            else texts
        )

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        if self.texts is None:
            return score_rows(
                self.scalar, [TokenizedExample(p, a) for p, a in zip(prompts, answers, strict=True)]
            )
        chat = ChatFormat(self.scalar.tokenizer, self.texts.chat_format)
        rows = [
            tokenize(chat, prompt, text, ANY_LENGTH, ended=self.texts.ended(answer))
            for (prompt, text), answer in zip(self.texts(prompts, answers), answers, strict=True)
        ]
        return score_rows(self.scalar, [row for row in rows if row])


class Ensemble:
    """Several scores as one; an answer that one of them does not score has none.

    ``spread`` is their mean deviation from each other in the last batch, which grows where they guess; None where they scored
    nothing.
    """

    def __init__(self, members: Sequence[ScoreFunction], combine: Combine = "mean") -> None:
        self.members, self.combine = members, combine
        self.normalised = all(map(is_normalised, members))
        self.spread: float | None = None

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        scores = _stacked(self.members, prompts, answers)
        deviation = scores.std(0, unbiased=False)
        known = deviation[~deviation.isnan()]
        self.spread = float(known.mean()) if len(known) else None
        if self.combine == "min":
            return scores.amin(0)
        return scores.mean(0) - (deviation if self.combine == "lower_confidence" else 0.0)


def mixed(parts: Mapping[ScoreFunction, float]) -> ScoreFunction:
    """The weighted sum of several scores; an answer that one of them does not score has none."""

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return (
            _stacked(list(parts), prompts, answers) * torch.tensor([*parts.values()]).unsqueeze(1)
        ).sum(0)

    return score


def _stacked(
    scores: Sequence[ScoreFunction], prompts: list[list[int]], answers: list[list[int]]
) -> Tensor:
    """What every function says of every answer, ``[functions, B]``; NaN for nothing."""
    rows = [values_of(score, prompts, answers) for score in scores]
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows])


def length_cost(per_token: float, free: int = 0) -> ScoreFunction:
    """A price for every token beyond ``free``, to be mixed with a reward that likes long answers."""

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return -per_token * torch.tensor(
            [max(0.0, float(len(answer) - free)) for answer in answers]
        )

    return score
