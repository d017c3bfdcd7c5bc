"""From scores to advantages: KL-shaped rewards, GAE, RLOO and GRPO.

Shapes: ``B`` rows, ``T`` response positions. The valid positions of a row are its first ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def shaped_rewards(
    scores_B: Tensor, logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, kl_coef: float
) -> Tensor:
    """Turn the score of each answer into a reward per token, with a KL penalty at every token.

    The reward is ``-kl_coef * (log pi - log pi_ref)`` at each token, plus the score at the last
    one. A row sums to ``score - kl_coef * KL estimate`` (arXiv 2203.02155, equation 2; arXiv
    1909.08593, equation 2).

    Args:
        scores_B: Score of each answer.
        logprobs_BT: Log-probabilities under the policy that wrote the answers.
        ref_logprobs_BT: Log-probabilities under the reference policy.
        mask_BT: Valid positions; a row without any gets no reward.
        kl_coef: KL penalty coefficient, per nat.

    Returns:
        Rewards ``[B, T]``, 0 in the padding.
    """
    penalties = -kl_coef * (logprobs_BT - ref_logprobs_BT)
    rewards = torch.where(mask_BT.bool(), penalties, logprobs_BT.new_zeros(()))
    last = mask_BT.long().sum(1) - 1
    rows = torch.arange(len(scores_B), device=scores_B.device)
    rewards[rows, last.clamp(min=0)] += torch.where(last >= 0, scores_B, scores_B.new_zeros(()))
    return rewards


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Estimate advantages with generalized advantage estimation (arXiv 1506.02438, equation 16).

    Args:
        rewards_BT: Reward of each token.
        values_BT: Value of the state before each token. After the last token the value is 0.
        mask_BT: Valid positions.
        gamma: Discount factor per token.
        gae_lambda: 1 uses full returns, 0 one-step value estimates.

    Returns:
        Advantages and returns (advantages plus values), each ``[B, T]`` and 0 in the padding.
    """
    mask = mask_BT.to(values_BT.dtype)
    values, rewards = values_BT * mask, rewards_BT * mask
    advantage = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(values[:, 0])
    backwards = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # in the padding both are 0, so the last valid position starts from 0
        advantage = (delta + gamma * gae_lambda * advantage) * mask[:, t]
        next_value = values[:, t]
        backwards.append(advantage)
    advantages = torch.stack(backwards[::-1], dim=1)
    return advantages, advantages + values


def rloo_advantages(returns_B: Tensor, group_size: int, known_B: Tensor | None = None) -> Tensor:
    """Subtract from each return the mean of the others in its group (arXiv 2402.14740, equation 8).

    Args:
        returns_B: Return of each answer. Consecutive runs of ``group_size`` are the answers to one
            prompt.
        group_size: Answers per prompt.
        known_B: True where the return is known; None: everywhere. An answer with an unknown return
            gets 0 and does not count for its group, and so does the only known one of a group.

    Returns:
        Advantages ``[B]``.
    """
    groups = _group(returns_B, group_size, known_B)
    totals = groups.returns.sum(1, keepdim=True)
    # r_i - (total - r_i) / (n - 1), times (n - 1) / (n - 1)
    advantages = (groups.returns * groups.counts - totals) / (groups.counts - 1).clamp(min=1)
    return (advantages * groups.known).flatten()


def grpo_advantages(
    returns_B: Tensor, group_size: int, known_B: Tensor | None = None, eps: float = 1e-4
) -> Tensor:
    """Standardize each return within its group (arXiv 2402.03300, section 4.1.2).

    Args:
        returns_B: As in :func:`rloo_advantages`.
        group_size: Answers per prompt.
        known_B: As in :func:`rloo_advantages`.
        eps: Added to the standard deviation.

    Returns:
        Advantages ``[B]``.
    """
    groups = _group(returns_B, group_size, known_B)
    means = groups.returns.sum(1, keepdim=True) / groups.counts.clamp(min=1)
    centered = (groups.returns - means) * groups.known
    squares = (centered**2).sum(1, keepdim=True)
    deviations = (squares / (groups.counts - 1).clamp(min=1)).sqrt()
    return (centered / (deviations + eps)).flatten()


class _Groups(NamedTuple):
    """Returns with one row per prompt: ``G`` prompts, ``K`` answers each."""

    returns: Tensor  # [G, K], 0 where unknown
    known: Tensor  # [G, K], 1 where the return is known, else 0
    counts: Tensor  # [G, 1], known returns of each prompt


def _group(returns_B: Tensor, group_size: int, known_B: Tensor | None) -> _Groups:
    known = torch.ones_like(returns_B) if known_B is None else known_B.to(returns_B.dtype)
    # an unknown return may be NaN
    returns = torch.where(known.bool(), returns_B, returns_B.new_zeros(()))
    known = known.view(-1, group_size)
    return _Groups(returns.view(-1, group_size), known, known.sum(1, keepdim=True))
