"""Score answers with a reward model that is given by its name, or with its ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cai.evaluate.choice_results import Scorer
from cai.models.load import fingerprint
from cai.models.scalar import load_scalar_model
from cai.records import Prompt
from cai.train.ppo.rewards import ensemble_paths
from cai.train.reward.scoring import score_texts


def reward_scores(name: str, answers: Sequence[tuple[Prompt, str]]) -> Tensor:
    """Score answers.

    Args:
        name: The reward model.
        answers: Prompts with an answer each.

    Returns:
        One score for each answer, on the CPU.
    """
    members = [score_texts(load_scalar_model(path), answers) for path in ensemble_paths(name)]
    return torch.stack(members).mean(0)


def reward_scorer(name: str) -> Scorer:
    """Return a reward model as a scorer of multiple-choice options.

    Args:
        name: The reward model: a folder or hub id.
    """

    def score(answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        return list(map(float, reward_scores(name, answers)))

    return Scorer(score, fingerprint(name))
