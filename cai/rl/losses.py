"""Losses of the training stages.

Shapes: ``B`` rows, ``T`` response positions, ``V`` vocabulary. All are computed in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cai.rl.masked import masked_mean, masked_sum

MAX_LOG_RATIO = 20.0
"""Log-ratios of new to old policy are clamped to this, so that their exponential is finite."""


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the log-probability of each token.

    Args:
        logits: ``[..., V]``, those that predict the token.
        tokens: ``[...]`` token ids.
        temperature: The temperature that the tokens were sampled at.

    Returns:
        Log-probabilities ``[...]``, in float32.
    """
    scaled = logits.float() / temperature
    return scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy ``[...]``, in nats, of the next-token distributions ``[..., V]``."""
    logprobs = F.log_softmax(logits.float(), -1)
    # a token with a logit of minus infinity adds nothing, the limit of p log p
    return -(logprobs.exp() * logprobs.masked_fill(logprobs.isneginf(), 0.0)).sum(-1)


def language_model_loss(logprobs_BT: Tensor, mask_BT: Tensor, tokens_in_step: float) -> Tensor:
    """Compute the negative log-likelihood of the label tokens, per token of the optimizer step.

    Args:
        logprobs_BT: Log-probability of each token.
        mask_BT: Label tokens, or their weights.
        tokens_in_step: Label tokens of the whole optimizer step. Dividing by this count, not by
            that of the micro-batch, makes accumulation equal to one large batch.

    Returns:
        The loss; the losses of the micro-batches of a step add up.
    """
    return -masked_sum(logprobs_BT, mask_BT) / tokens_in_step


def preference_loss(
    chosen_B: Tensor, rejected_B: Tensor, p_B: Tensor, margin_B: Tensor | float = 0.0
) -> Tensor:
    """Compute the cross-entropy between soft labels and the Bradley-Terry model.

    ``-[p log s(d - m) + (1 - p) log s(-d - m)]`` with ``d`` the score difference and ``s`` the
    sigmoid (Bai et al. 2022, arXiv 2212.08073, section 4.1). With hard labels, p = 1, it is arXiv
    2203.02155, equation 1.

    Args:
        chosen_B: Score of the first answer of each pair.
        rejected_B: Score of the second one.
        p_B: Probability that the first one is better.
        margin_B: The lead ``m`` that the better answer should have (arXiv 2307.09288, equation 2).

    Returns:
        The loss of each pair ``[B]``.
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
    margin_B: Tensor | float = 0.0,
) -> Tensor:
    """Compute the DPO loss with soft labels (arXiv 2305.18290, equation 7).

    It is the preference loss on the implicit rewards ``beta * log(pi / pi_ref)``.

    Args:
        policy_first_B: Log-probability of each first answer under the policy, summed over tokens.
        policy_second_B: The same for the second answers.
        ref_first_B: The same under the reference.
        ref_second_B: The same for the second answers.
        p_B: Probability that the first answer is better.
        beta: Strength of the KL regularization.
        margin_B: The lead that the better answer's implicit reward should have (arXiv 2402.10571).

    Returns:
        The loss of each pair ``[B]``.
    """
    return preference_loss(
        beta * (policy_first_B - ref_first_B),
        beta * (policy_second_B - ref_second_B),
        p_B,
        margin_B,
    )


def ipo_loss(
    policy_first_B: Tensor,
    policy_second_B: Tensor,
    ref_first_B: Tensor,
    ref_second_B: Tensor,
    p_B: Tensor,
    beta: float,
) -> Tensor:
    """Compute the IPO loss (arXiv 2310.12036, equation 17).

    It is the squared distance of the difference of log-ratios from ``1 / (2 beta)``. A soft label
    weights the two orders of the pair.

    Args:
        policy_first_B: Log-probability of each first answer, averaged over its tokens.
        policy_second_B: The same for the second answers.
        ref_first_B: The same under the reference.
        ref_second_B: The same for the second answers.
        p_B: Probability that the first answer is better.
        beta: Strength of the KL regularization.

    Returns:
        The loss of each pair ``[B]``.
    """
    difference = (policy_first_B - ref_first_B) - (policy_second_B - ref_second_B)
    target = 1 / (2 * beta)
    return p_B * (difference - target) ** 2 + (1 - p_B) * (difference + target) ** 2


class PolicyLoss(NamedTuple):
    """The loss of the policy, and how far the policy has moved.

    Attributes:
        loss: The clipped surrogate loss.
        clip_fraction: Fraction of the tokens whose ratio is clipped.
        approx_kl: KL from the old policy, estimated as half the mean squared log-ratio.
        ratio: Mean ratio of new to old probabilities; near 1 while the old answers are typical.
    """

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor
    ratio: Tensor


def policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    clip_range: float,
    num_tokens: float | None = None,
) -> PolicyLoss:
    """Compute the clipped surrogate of PPO, as a loss (arXiv 1707.06347, equation 7).

    Args:
        logprobs_BT: Log-probabilities under the policy that is trained.
        old_logprobs_BT: Log-probabilities under the policy that wrote the answers.
        advantages_BT: Advantage of each token.
        mask_BT: Valid tokens, or their weights.
        clip_range: The ratio is clipped to ``1 - clip_range`` .. ``1 + clip_range``.
        num_tokens: Tokens of the whole minibatch, if this is one of its micro-batches. Sums are
            divided by it, and those of the micro-batches add up. None: average the valid tokens.

    Returns:
        The loss and its metrics, all scalars.
    """
    log_ratio = torch.where(
        mask_BT.bool(), logprobs_BT - old_logprobs_BT, logprobs_BT.new_zeros(())
    ).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    unclipped = -advantages_BT * ratio
    clipped = -advantages_BT * ratio.clamp(1 - clip_range, 1 + clip_range)
    return PolicyLoss(
        loss=_mean(torch.maximum(unclipped, clipped), mask_BT, num_tokens),
        clip_fraction=_mean((clipped > unclipped).float(), mask_BT, num_tokens),
        approx_kl=0.5 * _mean(log_ratio**2, mask_BT, num_tokens),
        ratio=_mean(ratio, mask_BT, num_tokens),
    )


class ValueLoss(NamedTuple):
    """The loss of the critic.

    Attributes:
        loss: The clipped value loss.
        clip_fraction: Fraction of the tokens whose value is clipped.
    """

    loss: Tensor
    clip_fraction: Tensor


def value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    clip_range: float,
    num_tokens: float | None = None,
) -> ValueLoss:
    """Compute half the squared error of the values, clipped around the old ones.

    Of the plain and the clipped error the larger one counts, as in lm-human-preferences.

    Args:
        values_BT: Values by the critic that is trained.
        old_values_BT: Values at the time of the rollout.
        returns_BT: The returns to predict.
        mask_BT: Valid tokens, or their weights.
        clip_range: Values are clipped to this distance from the old ones.
        num_tokens: As in :func:`policy_loss`.

    Returns:
        The loss and its metric, both scalars.
    """
    near_old = old_values_BT + (values_BT - old_values_BT).clamp(-clip_range, clip_range)
    unclipped = (values_BT - returns_BT) ** 2
    clipped = (near_old - returns_BT) ** 2
    return ValueLoss(
        loss=0.5 * _mean(torch.maximum(unclipped, clipped), mask_BT, num_tokens),
        clip_fraction=_mean((clipped > unclipped).float(), mask_BT, num_tokens),
    )


def _mean(values: Tensor, mask: Tensor, num_tokens: float | None) -> Tensor:
    if num_tokens is None:
        return masked_mean(values, mask)
    return masked_sum(values, mask) / num_tokens
