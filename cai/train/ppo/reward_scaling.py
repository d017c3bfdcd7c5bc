"""From the scores of a reward source to those that PPO learns from: clip, shift, constrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cai.config import PPO
from cai.rl.constraint import LagrangeMultiplier
from cai.rl.masked import masked_mean
from cai.train.ppo.rewards import ConstraintReward, ScoreFunction, is_normalized
from cai.train.ppo.rollout import Rollout

SCORE_CLIP = 10.0
"""Normalized scores are clipped to this many standard deviations."""


def score_clip(score: ScoreFunction, config: PPO) -> float | None:
    """Return the distance from zero that scores are clipped to; None: they are not clipped.

    It is ``ppo.rollout.score_clip`` if that is set, else ``SCORE_CLIP`` for normalized scores.
    """
    if config.rollout.score_clip is not None:
        return config.rollout.score_clip
    return SCORE_CLIP if is_normalized(score) else None


@dataclass
class ScoreScale:
    """Clips the scores of one source and shifts them to where the critic expects them.

    Scores that are not normalized may be anywhere. A constant is subtracted from them, so that in
    the first update their mean is what the critic predicts. Every answer has exactly one score, so
    a constant does not change which policy is best.

    Attributes:
        clip: Largest distance from zero; None: no clipping.
        offset: The constant; None: not measured yet.
    """

    clip: float | None
    offset: float | None

    @classmethod
    def of(cls, score: ScoreFunction, config: PPO) -> ScoreScale:
        """Choose the scale of a reward source."""
        return cls(score_clip(score, config), 0.0 if is_normalized(score) else None)

    def apply(self, scores_B: Tensor, rollout: Rollout) -> Tensor:
        """Clip and shift the scores of a rollout; the first one with a score fixes the offset."""
        clipped = scores_B if self.clip is None else scores_B.clamp(-self.clip, self.clip)
        if self.offset is None and rollout.scored.any():
            expected = masked_mean(rollout.values, rollout.mask)
            self.offset = float(clipped[rollout.scored].mean() - expected)
        return clipped - (self.offset or 0.0)


class RewardScaling:
    """Scales the scores of a rollout and combines them with those of a constraint.

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
        self.score_scale = ScoreScale.of(score, config)
        self.constraint_scale: ScoreScale | None = None
        self.multiplier: LagrangeMultiplier | None = None
        if constraint:
            self.constraint_scale = ScoreScale.of(constraint.score, config)
            self.multiplier = LagrangeMultiplier(constraint.min)

    def apply(self, rollout: Rollout) -> tuple[Rollout, dict[str, float]]:
        """Scale the scores of a rollout and move the multiplier on.

        Returns:
            The rollout with the scores to learn from, and the metrics of the constraint:
            ``constraint`` (its mean score, if any answer has one) and ``multiplier``.
        """
        scores = self.score_scale.apply(rollout.scores, rollout)
        if self.constraint_scale is None or self.multiplier is None:
            return rollout._replace(scores=scores), {}
        metrics: dict[str, float] = {}
        known = rollout.constraints[rollout.scored]
        if len(known):
            self.multiplier.update(known.tolist())
            metrics["constraint"] = float(known.mean())
        constraints = self.constraint_scale.apply(rollout.constraints, rollout)
        metrics["multiplier"] = self.multiplier.value
        return rollout._replace(scores=self.multiplier.combine(scores, constraints)), metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, as JSON values."""
        state: dict[str, Any] = {"offset": self.score_scale.offset}
        if self.constraint_scale and self.multiplier:
            state["constraint_offset"] = self.constraint_scale.offset
            state["multiplier"] = self.multiplier.value
            state["recent_constraints"] = self.multiplier.recent
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.score_scale.offset = state["offset"]
        if self.constraint_scale and self.multiplier:
            self.constraint_scale.offset = state["constraint_offset"]
            self.multiplier.value = state["multiplier"]
            self.multiplier.recent = state["recent_constraints"]
