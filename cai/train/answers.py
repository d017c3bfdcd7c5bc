"""Log-probabilities of whole answers, with and without training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cai.models.heads import Policy
from cai.models.packing.layout import PackedBatch, PromptGroup, pack
from cai.rl.losses import token_logprobs
from cai.train.batching import bucket_by_length


def sequence_logprobs(logits: Tensor, packed: PackedBatch, *, mean: bool = False) -> Tensor:
    """Compute the log-probability of each answer.

    Args:
        logits: Logits that predict the answers' tokens, ``[N, V]``.
        packed: The batch that they were computed for.
        mean: Divide by the number of tokens (IPO) instead of summing over them (DPO).

    Returns:
        One log-probability per answer, ``[A]``.
    """
    sums = packed.sums(token_logprobs(logits, packed.targets))
    return sums / packed.lengths() if mean else sums


@torch.no_grad()
def answer_logprobs(
    policy: Policy,
    prompt_groups: Sequence[PromptGroup],
    pad_id: int,
    *,
    mean: bool = False,
    max_tokens: int = 1_024,
) -> list[Tensor]:
    """Compute the log-probabilities of all answers under a policy as it is now.

    Args:
        policy: The policy.
        prompt_groups: Prompts with their answers.
        pad_id: Token id to pad rows with.
        mean: As in :func:`sequence_logprobs`.
        max_tokens: Maximum tokens to read at once, padding included.

    Returns:
        For each group the log-probabilities of its answers, ``[A]``, on the CPU.
    """
    logprobs: dict[int, Tensor] = {}
    for rows in bucket_by_length([group.size for group in prompt_groups], max_tokens):
        packed = pack(policy.model, [prompt_groups[row] for row in rows], pad_id)
        logits, _ = policy(packed)
        values = sequence_logprobs(logits, packed, mean=mean).cpu()
        answers = [len(prompt_groups[row].answers) for row in rows]
        logprobs |= zip(rows, torch.split(values, answers), strict=True)
    return [logprobs[row] for row in range(len(prompt_groups))]
