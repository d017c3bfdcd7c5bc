"""Batched decoding with one keyed random number per token, so that a row's text does not depend on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

from cai.models.cache import cached
from cai.models.packing.padding import pad_left, positions
from cai.quiet import quiet


class Decoded(NamedTuple):
    """Generated tokens of one row."""

    tokens: list[int]  # with the stop token that ended it, if one did
    stopped: bool  # ended by a stop token, not by the limit
    logprobs: list[
        float
    ]  # of each token, at the temperature it was drawn at; 0 where nothing is drawn


@quiet()
@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    temperature: float,
    seeds: Sequence[int],
    stop_ids: frozenset[int],
    pad_id: int,
) -> list[Decoded]:
    """Continue each prompt by at most ``max_tokens`` tokens, greedily at temperature 0, else by sampling.

    Row ``i`` draws its tokens by inverse transform from the uniform numbers of a generator seeded with ``seeds[i]``.
    Prompts are padded on the left with explicit positions, and one that stands there several times is read once; rows that have
    ended leave the batch.
    """
    device = model.device
    uniforms = torch.stack(
        [torch.rand(max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    ).to(device)
    different = list(dict.fromkeys(map(tuple, prompts)))
    place = {prompt: i for i, prompt in enumerate(different)}
    ids, mask = pad_left(different, pad_id, device)
    cache = DynamicCache(config=model.config)
    rows = torch.arange(len(prompts), device=device)
    stops = torch.tensor(sorted(stop_ids), device=device)
    written = torch.full((len(prompts), max_tokens), -1, dtype=torch.long, device=device)
    logprobs = torch.zeros(len(prompts), max_tokens, device=device)
    step_ids, step_positions = ids, positions(mask)
    for step in range(max_tokens):
        out = model(
            input_ids=step_ids,
            attention_mask=mask,
            position_ids=step_positions,
            logits_to_keep=1,
            **cached(model, cache),
        )
        logits = out.logits[:, -1]
        if step == 0 and len(different) < len(prompts):
            spread = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
            cache.batch_select_indices(spread)
            logits, mask, step_positions = logits[spread], mask[spread], step_positions[spread]
        token, logprobs[rows, step] = pick(logits, temperature, uniforms[rows, step])
        written[rows, step] = token
        going = ~torch.isin(token, stops)
        if step == max_tokens - 1 or not bool(going.any()):
            break
        step_positions = step_positions[:, -1:] + 1
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            rows, token, mask, step_positions = (
                rows[keep],
                token[keep],
                mask[keep],
                step_positions[keep],
            )
        step_ids = token.unsqueeze(1)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return [
        _decoded(row, stop_ids, drawn)
        for row, drawn in zip(written.tolist(), logprobs.tolist(), strict=True)
    ]


def pick(
    logits: torch.Tensor, temperature: float, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row of ``logits [B, V]`` and its log-probability, ``[B]`` each.

    It is the largest, which is then certain, or the one whose share ``uniform`` falls in.
    """
    if temperature == 0:
        return logits.argmax(-1), torch.zeros_like(uniform)
    shares = (logits.float() / temperature).softmax(-1)
    cumulative = shares.cumsum(-1)
    target = (uniform.to(cumulative.dtype) * cumulative[:, -1]).unsqueeze(1)
    token = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    return token.squeeze(1), shares.gather(1, token).log().squeeze(1)


def _decoded(row: list[int], stop_ids: frozenset[int], logprobs: list[float]) -> Decoded:
    for i, token in enumerate(row):
        if token in stop_ids:
            return Decoded(row[: i + 1], stopped=True, logprobs=logprobs[: i + 1])
        if token < 0:
            return Decoded(row[:i], stopped=False, logprobs=logprobs[:i])
    return Decoded(row, stopped=False, logprobs=logprobs)
