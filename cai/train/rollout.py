"""Rollouts: the policy's answers to a batch of prompts, with everything PPO needs to know about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai.models.decode import decode, pad_left
from cai.models.project import next_token_logits
from cai.models.scalar import token_values
from cai.rl.losses import token_logprobs

Score = Callable[[list[list[int]], list[list[int]]], Tensor]
"""From prompt token ids and answer token ids (stop token included) to a score ``[B]`` per answer."""


class Rollout(NamedTuple):
    """Answers to ``B`` prompts. Prompts are padded on the left to ``P`` tokens, answers on the right to ``T``."""

    ids: Tensor  # [B, P + T] token ids
    attention: Tensor  # [B, P + T] 1 where a token is real
    prompt_length: int  # P
    mask: Tensor  # [B, T] True where an answer token is real, its stop token included
    logprobs: Tensor  # [B, T] of the answer tokens under the policy that wrote them
    ref_logprobs: Tensor  # [B, T] under the reference policy
    values: Tensor  # [B, T] value of the state before each answer token
    scores: Tensor  # [B] score of each answer
    stopped: Tensor  # [B] whether the answer ended by itself

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(1)


class Prediction(NamedTuple):
    """What a model thinks of the answer tokens that were written."""

    logprobs: Tensor  # [B, T], 0 where there is no token
    logits: Tensor  # [N, V] of the N answer tokens, row by row


def predict(model: PreTrainedModel, ids_BL: Tensor, attention_BL: Tensor, mask_BT: Tensor, temperature: float = 1.0) -> Prediction:
    """Log-probabilities of the answer tokens, the last ``T`` of each row; nothing else is projected on the vocabulary."""
    prompt_length = ids_BL.shape[1] - mask_BT.shape[1]
    wanted = torch.cat([mask_BT.new_zeros(len(mask_BT), prompt_length - 1), mask_BT], 1)
    logits = next_token_logits(model, ids_BL, attention_BL, wanted)
    logprobs = token_logprobs(logits, ids_BL[:, 1:][wanted], temperature)
    return Prediction(logprobs.new_zeros(mask_BT.shape).masked_scatter(mask_BT, logprobs), logits)


def answer_values(value_model: torch.nn.Module, ids_BL: Tensor, attention_BL: Tensor, prompt_length: int) -> Tensor:
    """The value ``[B, T]`` of the state in which each answer token is chosen."""
    return token_values(value_model, ids_BL, attention_BL)[:, prompt_length - 1 : -1]


@torch.no_grad()
def roll_out(
    policy: PreTrainedModel, reference: PreTrainedModel, value_model: torch.nn.Module, prompts: Sequence[list[int]], score: Score, *,
    seeds: Sequence[int], max_tokens: int, temperature: float, stop_ids: frozenset[int], pad_id: int, missing_eos_score: float | None,
) -> Rollout:  # fmt: skip
    """Answer each prompt once and look at the answers with reference, value model and scorer.

    Sampling uses the whole distribution at ``temperature``, and all log-probabilities are taken at that temperature, so
    that ratios are 1 before the first update. An answer that was cut off gets ``missing_eos_score`` in place of its own
    score, where one is given (lm-human-preferences).
    """
    decoded = decode(policy, prompts, max_tokens=max_tokens, temperature=temperature, seeds=seeds, stop_ids=stop_ids, pad_id=pad_id)
    answers = [row.tokens for row in decoded]
    device = policy.device
    prompt_ids, prompt_mask = pad_left(prompts, pad_id, device)
    length = max(map(len, answers))
    answer_ids = torch.full((len(answers), length), pad_id, dtype=torch.long)
    mask = torch.zeros(len(answers), length, dtype=torch.bool)
    for i, answer in enumerate(answers):
        answer_ids[i, : len(answer)] = torch.tensor(answer)
        mask[i, : len(answer)] = True
    answer_ids, mask = answer_ids.to(device), mask.to(device)
    ids, attention = torch.cat([prompt_ids, answer_ids], 1), torch.cat([prompt_mask, mask.long()], 1)
    width = prompt_ids.shape[1]
    stopped = torch.tensor([row.stopped for row in decoded], device=device)
    scores = score(list(map(list, prompts)), answers).to(device)
    if missing_eos_score is not None:
        scores = torch.where(stopped, scores, torch.full_like(scores, missing_eos_score))
    return Rollout(
        ids=ids, attention=attention, prompt_length=width, mask=mask,
        logprobs=predict(policy, ids, attention, mask, temperature).logprobs,
        ref_logprobs=predict(reference, ids, attention, mask, temperature).logprobs,
        values=answer_values(value_model, ids, attention, width), scores=scores, stopped=stopped,
    )  # fmt: skip
