"""What can be seen of a rollout without knowing how good the answers are.

A second reward model that is never trained on, and what the score gains when answers are merely
perturbed. The detectors in :mod:`cai.train.ppo.onset` read these metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from cai.records import Prompt
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.metrics import mean
from cai.train.ppo.rewards import ScoreFunction, score_answers, source_metrics
from cai.train.ppo.rollout import Rollout
from cai.train.reward.perturbations import gains

MIN_ANSWERS = 4
"""Answers with a score that a correlation needs."""
MIN_STD = 1e-6
"""Standard deviation below which scores count as equal."""


@dataclass(frozen=True)
class Signals:
    """Measures every rollout of a training.

    Attributes:
        score: The reward source.
        second: A second reward source, or None.
        detokenizer: Turns token ids into texts, for the perturbations; None: no perturbations.
        probed: Answers of each rollout that are perturbed.
    """

    score: ScoreFunction
    second: ScoreFunction | None = None
    detokenizer: Detokenizer | None = None
    probed: int | None = None

    def measure(self, rollout: Rollout) -> dict[str, float]:
        """Measure one rollout.

        Args:
            rollout: The rollout, with the scores as the reward source gave them.

        Returns:
            ``score_length_correlation``; with a second source ``second_score`` and
            ``second_agreement``, the correlation of both scores; with a probe ``format_raise``.
            What cannot be computed is left out.
        """
        metrics = _correlation(
            "score_length_correlation", rollout, rollout.scores, rollout.lengths.float()
        )
        if self.second is not None:
            metrics |= self._second(self.second, rollout)
        if self.detokenizer is not None and self.probed is not None:
            metrics |= self._format_raise(self.detokenizer, self.probed, rollout)
        return metrics

    def _second(self, second: ScoreFunction, rollout: Rollout) -> dict[str, float]:
        rows = rollout.trajectories
        scores = _scores(second, [row.prompt for row in rows], [row.answer for row in rows])
        known = scores[~scores.isnan()]
        metrics = source_metrics(second)
        if len(known):
            metrics["second_score"] = float(known.mean())
        return metrics | _correlation("second_agreement", rollout, rollout.scores, scores)

    def _format_raise(
        self, detokenizer: Detokenizer, probed: int, rollout: Rollout
    ) -> dict[str, float]:
        """The largest mean gain of a perturbation, in standard deviations of the scores."""
        known = rollout.scores[rollout.scored]
        if len(known) < MIN_ANSWERS or float(known.std(unbiased=False)) < MIN_STD:
            return {}
        rows = rollout.trajectories[:: max(1, len(rollout.trajectories) // probed)]
        rows = rows[:probed]
        answers = detokenizer([row.prompt for row in rows], [row.answer for row in rows])
        by_perturbation = gains(partial(_score_texts, self.score, detokenizer), answers)
        kept = [[gain for gain in row if gain is not None] for row in by_perturbation.values()]
        means = [mean(row) for row in kept if row]
        return {"format_raise": max(means) / float(known.std(unbiased=False))} if means else {}


def _score_texts(
    score: ScoreFunction, detokenizer: Detokenizer, answers: Sequence[tuple[Prompt, str]]
) -> list[float | None]:
    """Score answers as texts by a source that reads token ids."""
    pairs = [detokenizer.chat.example(prompt.messages, text) for prompt, text in answers]
    return score_answers(score, [prompt for prompt, _ in pairs], [answer for _, answer in pairs])


def _scores(score: ScoreFunction, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
    """Score answers: ``[B]``, NaN where there is no score."""
    scores = score_answers(score, prompts, answers)
    return torch.tensor([math.nan if value is None else value for value in scores])


def _correlation(name: str, rollout: Rollout, first: Tensor, second: Tensor) -> dict[str, float]:
    """The correlation of two values over the scored answers; nothing if it is not defined."""
    known = rollout.scored & ~second.isnan()
    rows = torch.stack([first[known], second[known]])
    if rows.shape[1] < MIN_ANSWERS or float(rows.std(1, unbiased=False).min()) < MIN_STD:
        return {}
    return {name: float(torch.corrcoef(rows)[0, 1])}
