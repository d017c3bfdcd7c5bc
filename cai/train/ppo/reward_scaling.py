"""From the scores of a reward source to those that PPO learns from: scale, clip, constrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cai.config import PPO
from cai.rl.constraint import LagrangeMultiplier
from cai.rl.masked import masked_mean
from cai.train.ppo.rewards import ConstraintReward, ScoreFunction, is_normalized
from cai.train.ppo.rollout import Rollout

SCORE_CLIP = 10.0
"""Scores on the normalized scale are clipped to this many standard deviations."""
MIN_ANSWERS = 2
"""Answers with a score from which a mean and a standard deviation are taken."""
MIN_STD = 1e-6
"""Standard deviation, as a fraction of the mean, below which scores differ by rounding only."""


def score_clip(score: ScoreFunction, config: PPO) -> float | None:
    """Return the distance from zero that scores are clipped to; None: they are not clipped.

    It is ``ppo.rollout.score_clip`` if that is set, else ``SCORE_CLIP`` for scores on the
    normalized scale.
    """
    if config.rollout.score_clip is not None:
        return config.rollout.score_clip
    return SCORE_CLIP if is_normalized(score) or config.rollout.normalize_scores else None


@dataclass
class ScoreScale:
    """Brings the scores of one source to the scale that PPO learns from.

    Scores of a source that is not normalized may be anywhere. They are brought to mean 0 and
    standard deviation 1 over the answers of the starting policy, those of the first rollout
    (arXiv 1909.08593), and then shifted by a constant to where the critic expects them. Every
    answer has exactly one score, so a constant does not change which policy is best.

    Attributes:
        clip: Largest distance from zero, before the shift; None: no clipping.
        mean: Subtracted from a score; None: not measured yet.
        std: A score is divided by it; None: not measured yet, as in rollouts in which all answers
            have the same score. They are divided by nothing.
        divides: Whether ``mean`` and ``std`` are those of the scores, and not 0 and 1.
        shift: Added at the end.
    """

    clip: float | None
    mean: float | None = 0.0
    std: float | None = 1.0
    divides: bool = False
    shift: float = 0.0

    @classmethod
    def of(cls, score: ScoreFunction, config: PPO) -> ScoreScale:
        """Choose the scale of a reward source."""
        clip = score_clip(score, config)
        if is_normalized(score):
            return cls(clip)
        divides = config.rollout.normalize_scores
        return cls(clip, mean=None, std=None if divides else 1.0, divides=divides)

    def apply(self, scores_B: Tensor, rollout: Rollout) -> Tensor:
        """Scale the scores of a rollout, which may set the scale; clip and shift them."""
        self.measure(scores_B, rollout)
        return self.placed(self.normalized(scores_B))

    def measure(self, scores_B: Tensor, rollout: Rollout) -> None:
        """Set the scale, if these are the first scores that are enough for that."""
        scored = scores_B[rollout.scored]
        if self.mean is None and len(scored) >= MIN_ANSWERS:
            self._measure(scored, rollout)
        if self.std is None and len(scored) >= MIN_ANSWERS:
            std = float(scored.double().std())
            self.std = std if std > MIN_STD * max(1.0, abs(float(scored.mean()))) else None

    def normalized(self, scores_B: Tensor) -> Tensor:
        """Return scores on the scale that limits refer to."""
        return (scores_B - (self.mean or 0.0)) / (self.std or 1.0)

    def placed(self, normalized_B: Tensor) -> Tensor:
        """Clip normalized scores, and shift them to where the critic expects them."""
        clip = self.clip
        return (normalized_B if clip is None else normalized_B.clamp(-clip, clip)) + self.shift

    def _measure(self, scores: Tensor, rollout: Rollout) -> None:
        self.mean = float(scores.double().mean()) if self.divides else 0.0
        self.shift = float(masked_mean(rollout.values, rollout.mask))
        if not self.divides:
            clipped = scores if self.clip is None else scores.clamp(-self.clip, self.clip)
            self.shift -= float(clipped.mean())

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, as JSON values."""
        return {"mean": self.mean, "std": self.std, "shift": self.shift}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.mean, self.std, self.shift = state["mean"], state["std"], state["shift"]


class RewardScaling:
    """Scales the scores of a rollout and combines them with those of a constraint.

    Answers that were cut off get ``ppo.rollout.missing_eos_score`` in place of their own
    (lm-human-preferences), if it is set, on the normalized scale.

    Args:
        score: The reward source.
        constraint: The constraint, or None.
        config: Settings of PPO.

    Attributes:
        score_scale: Scale of the reward source.
        constraint_scale: Scale of the constraint.
        multiplier: The weight of the constraint, None without one.
    """

    def __init__(
        self, score: ScoreFunction, constraint: ConstraintReward | None, config: PPO
    ) -> None:
        self.missing_eos_score = config.rollout.missing_eos_score
        self.score_scale = ScoreScale.of(score, config)
        self.constraint_scale: ScoreScale | None = None
        self.multiplier: LagrangeMultiplier | None = None
        if constraint:
            self.constraint_scale = ScoreScale.of(constraint.score, config)
            self.multiplier = LagrangeMultiplier(constraint.min)

    def apply(self, rollout: Rollout) -> tuple[Rollout, dict[str, float]]:
        """Scale the scores of a rollout and move the multiplier on.

        Returns:
            The rollout with the scores to learn from, and metrics: ``unread``, the answers without
            a score; ``normalized_score``, the mean on the scale that limits refer to, if any answer
            has a score; and of a constraint its mean score, ``constraint``, and ``multiplier``.
        """
        self.score_scale.measure(rollout.scores, rollout)
        normalized, scored = self.score_scale.normalized(rollout.scores), rollout.scored
        if self.missing_eos_score is not None:
            normalized = normalized.where(rollout.stopped, self.missing_eos_score)
            constrained = torch.tensor([row.constraint is not None for row in rollout.trajectories])
            scored = scored | ~rollout.stopped & constrained
        scores = self.score_scale.placed(normalized)
        metrics = {"unread": float((~scored).sum())}
        if scored.any():
            metrics["normalized_score"] = float(normalized[scored].mean())
        if self.constraint_scale is None or self.multiplier is None:
            return rollout._replace(scores=scores, scored=scored), metrics
        known = rollout.constraints[rollout.scored]
        if len(known):
            self.multiplier.update(known.tolist())
            metrics["constraint"] = float(known.mean())
        constraints = self.constraint_scale.apply(rollout.constraints, rollout)
        metrics["multiplier"] = self.multiplier.value
        combined = self.multiplier.combine(scores, constraints)
        return rollout._replace(scores=combined, scored=scored), metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, as JSON values."""
        state: dict[str, Any] = {"score": self.score_scale.state_dict()}
        if self.constraint_scale and self.multiplier:
            state["constraint"] = self.constraint_scale.state_dict()
            state["multiplier"] = self.multiplier.value
            state["recent_constraints"] = self.multiplier.recent
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.score_scale.load_state_dict(state["score"])
        if self.constraint_scale and self.multiplier:
            self.constraint_scale.load_state_dict(state["constraint"])
            self.multiplier.value = state["multiplier"]
            self.multiplier.recent = state["recent_constraints"]
