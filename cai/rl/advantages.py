"""From scores to advantages: the KL-shaped reward of each token and generalised advantage estimation.

Shapes: ``B`` rows, ``T`` response positions; the valid positions of a row are its first ones.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shaped_rewards(
    scores_B: Tensor, logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> Tensor:
    """``-kl_coef * (log pi - log pi_ref)`` at each response token, plus the score at the last valid one.

    Sums over a row to ``score - kl_coef * KL estimate`` (arXiv 2203.02155, equation 2; arXiv 1909.08593, equation 2).
    """
    rewards = torch.where(
        mask_BT.bool(), -kl_coef * (logprobs_BT - ref_logprobs_BT), logprobs_BT.new_zeros(())
    )
    last = mask_BT.long().sum(1) - 1
    rows = torch.arange(len(scores_B), device=scores_B.device)
    rewards[rows, last.clamp(min=0)] += torch.where(last >= 0, scores_B, scores_B.new_zeros(()))
    return rewards


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438, equation 16) with value 0 after the end.

    Returns advantages and returns (advantages + values), both ``[B, T]`` and 0 in the padding.
    """
    mask = mask_BT.to(values_BT.dtype)
    values, rewards = values_BT * mask, rewards_BT * mask
    advantage, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    backwards = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # past a row's end both carry zero into its last valid position
        advantage = (delta + gamma * gae_lambda * advantage) * mask[:, t]
        next_value = values[:, t]
        backwards.append(advantage)
    advantages = torch.stack(backwards[::-1], dim=1)
    return advantages, advantages + values


def rloo_advantages(returns_B: Tensor, group: int, known_B: Tensor | None = None) -> Tensor:
    """RLOO: each answer's return less the mean of the others to its prompt (arXiv 2402.14740, equation 8).

    ``returns`` ``[B]`` stand in runs of ``group`` answers to one prompt; so does the result. An answer whose return is not
    ``known`` gets 0 and is none of the others; so does one that no other is known beside.
    """
    group_rows, known, count = _grouped(returns_B, group, known_B)
    advantages = (group_rows * count - group_rows.sum(1, keepdim=True)) / (count - 1).clamp(min=1)
    return (advantages * known).flatten()


def grpo_advantages(
    returns_B: Tensor, group: int, known_B: Tensor | None = None, eps: float = 1e-4
) -> Tensor:
    """GRPO: each answer's return less the mean of its prompt's, in units of their deviation (arXiv 2402.03300, section 4.1.2).

    ``known`` as in :func:`rloo_advantages`.
    """
    group_rows, known, count = _grouped(returns_B, group, known_B)
    centred = (group_rows - group_rows.sum(1, keepdim=True) / count.clamp(min=1)) * known
    deviation = ((centred**2).sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return (centred / (deviation + eps)).flatten()


def _grouped(
    returns_B: Tensor, group: int, known_B: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns in rows of a prompt's answers, 0 where they are not known; which are; and how many of each row."""
    known = torch.ones_like(returns_B) if known_B is None else known_B.to(returns_B.dtype)
    group_rows = torch.where(known.bool(), returns_B, returns_B.new_zeros(())).view(-1, group)
    known = known.view(-1, group)
    return group_rows, known, known.sum(1, keepdim=True)
