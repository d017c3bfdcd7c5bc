"""Losses of the four training stages.

Shapes: ``B`` rows, ``T`` response positions, ``V`` vocabulary. All are computed in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cai.rl.masked import masked_mean, masked_sum


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability ``[...]`` of each token under the logits ``[..., V]`` that predict it, at the sampling temperature."""
    scaled = logits.float() / temperature
    return scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def language_model_loss(logprobs_BT: Tensor, mask_BT: Tensor, tokens_in_step: float) -> Tensor:
    """Negative log-likelihood of the label tokens over the number of label tokens of the whole optimiser step.

    Dividing by the step's count, not the micro-batch's, makes accumulation equal to one large batch.
    """
    return -masked_sum(logprobs_BT, mask_BT) / tokens_in_step


def preference_loss(
    chosen_B: Tensor, rejected_B: Tensor, p_B: Tensor, margin_B: Tensor | float = 0.0
) -> Tensor:
    """Cross-entropy between a soft label ``p`` (probability that the first is better) and the Bradley-Terry model.

    ``-[p log s(d - m) + (1 - p) log s(-d - m)]`` with ``d`` the score difference (Bai et al. 2022, arXiv 2212.08073 section 4.1;
    the hard case p = 1 is arXiv 2203.02155, equation 1) and ``m`` the margin by which the better one should lead (arXiv
    2307.09288, equation 2). Returns the loss of each pair ``[B]``.
    """
    difference = chosen_B.float() - rejected_B.float()
    return -(
        p_B * F.logsigmoid(difference - margin_B) + (1 - p_B) * F.logsigmoid(-difference - margin_B)
    )


def dpo_loss(
    policy_first_B: Tensor,
    policy_second_B: Tensor,
    ref_first_B: Tensor,
    ref_second_B: Tensor,
    p_B: Tensor,
    beta: float,
) -> Tensor:
    """DPO with soft labels: the preference loss on the implicit rewards ``beta * log(pi / pi_ref)`` (arXiv 2305.18290, eq. 7).

    Arguments are log-probabilities of whole answers, summed over tokens. Returns the loss of each pair ``[B]``.
    """
    return preference_loss(
        beta * (policy_first_B - ref_first_B), beta * (policy_second_B - ref_second_B), p_B
    )


def ipo_loss(
    policy_first_B: Tensor,
    policy_second_B: Tensor,
    ref_first_B: Tensor,
    ref_second_B: Tensor,
    p_B: Tensor,
    beta: float,
) -> Tensor:
    """IPO: the squared distance of the log-ratio difference from ``1 / (2 beta)`` (arXiv 2310.12036, equation 17).

    With a soft label the two orders are weighted by it. Arguments are log-probabilities of whole answers, as means over
    their tokens. Returns the loss of each pair ``[B]``.
    """
    difference = (policy_first_B - ref_first_B) - (policy_second_B - ref_second_B)
    target = 1 / (2 * beta)
    return p_B * (difference - target) ** 2 + (1 - p_B) * (difference + target) ** 2


class PolicyLoss(NamedTuple):
    loss: Tensor
    clip_fraction: Tensor  # share of tokens where the clipped term is the larger one
    approx_kl: Tensor  # half the mean squared log-ratio
    ratio: Tensor  # mean of the ratios of new to old probabilities; about 1 while the old answers are still typical


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip: float,
    total: float | None = None,
) -> PolicyLoss:
    """Clipped surrogate of PPO (arXiv 1707.06347, equation 7), as a loss.

    Averaged over the valid tokens, or divided by ``total``, the number of them in a whole batch that this is a part of; the
    parts then add up. Likewise :func:`value_loss`.
    """
    log_ratio = torch.where(
        mask_BT.bool(), logprobs_BT - old_logprobs_BT, logprobs_BT.new_zeros(())
    ).clamp(-20, 20)
    ratio = log_ratio.exp()
    plain = -advantages_BT * ratio
    clipped = -advantages_BT * ratio.clamp(1 - clip, 1 + clip)
    return PolicyLoss(
        loss=_mean(torch.maximum(plain, clipped), mask_BT, total),
        clip_fraction=_mean((clipped > plain).float(), mask_BT, total),
        approx_kl=0.5 * _mean(log_ratio**2, mask_BT, total),
        ratio=_mean(ratio, mask_BT, total),
    )


class ValueLoss(NamedTuple):
    loss: Tensor
    clip_fraction: Tensor  # share of tokens where the clipped error is the larger one


def value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    clip: float,
    total: float | None = None,
) -> ValueLoss:
    """Half the squared error of the values, the worse of plain and clipped round the old values (lm-human-preferences)."""
    near_old = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    plain, clipped = (values_BT - returns_BT) ** 2, (near_old - returns_BT) ** 2
    return ValueLoss(
        loss=0.5 * _mean(torch.maximum(plain, clipped), mask_BT, total),
        clip_fraction=_mean((clipped > plain).float(), mask_BT, total),
    )


def _mean(values: Tensor, mask: Tensor, total: float | None) -> Tensor:
    return masked_mean(values, mask) if total is None else masked_sum(values, mask) / total


def entropy(logits: Tensor) -> Tensor:
    """Entropy ``[...]`` of the next-token distributions ``[..., V]``, in nats.

    A token that a model rules out (a logit of minus infinity) adds nothing, the limit of ``p log p``.
    """
    logprobs = F.log_softmax(logits.float(), -1)
    return -(logprobs.exp() * logprobs.masked_fill(logprobs.isneginf(), 0.0)).sum(-1)
