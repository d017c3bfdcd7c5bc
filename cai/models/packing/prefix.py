"""Reading rows that begin alike: the shared beginning once, then each row's own part from its cached keys and values.

The own parts of one beginning stand one after the other in one line, each blind to the others, so the cache is read where it
lies: a copy of it for every row would cost more than the attention to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cai.models.cache import cached
from cai.models.packing.layout import (
    PackedBatch,
    PromptGroup,
    can_share_prefix,
    pack_rows,
    supports_tree_attention,
)
from cai.models.packing.logits import logits_at
from cai.models.packing.padding import pad_right, positions
from cai.quiet import quiet

WORTH_SHARING = 12
"""Tokens that rows must have in common before a second pass over the model pays."""
LINE_TOKENS = 512
"""Tokens of own parts that stand in one line; attention within it grows with its square."""

Tokens = Sequence[int]


class PrefixGroup(NamedTuple):
    """Rows whose first ``shared`` tokens are the same; 0 where a row stands alone."""

    shared: int
    rows: list[int]


def group_rows(
    model: PreTrainedModel, rows: Sequence[Tokens], kept: Sequence[int]
) -> list[PrefixGroup]:
    """The groups in which a model can read some rows; see :func:`group_by_prefix`."""
    if rows and supports_tree_attention(model) and can_share_prefix(model, max(map(len, rows))):
        return group_by_prefix(rows, kept)
    return [PrefixGroup(0, [i]) for i in range(len(rows))]


def group_by_prefix(rows: Sequence[Tokens], kept: Sequence[int]) -> list[PrefixGroup]:
    """Put distinct rows into groups so that few tokens are read; the last ``kept[i]`` tokens stay row ``i``'s own."""
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    groups: list[PrefixGroup] = []
    for i in order:
        if groups:
            last = groups[-1]
            first = last.rows[0]
            alike = min(common(rows[last.rows[-1]], rows[i]), len(rows[i]) - kept[i])
            shared = (
                min(alike, last.shared)
                if last.shared
                else min(alike, len(rows[first]) - kept[first])
            )
            # reading the group's rows from a shorter beginning costs; reading this one's beginning again costs as well
            given_up = (last.shared - shared) * (len(last.rows) - 1) if last.shared else 0
            if shared >= WORTH_SHARING and shared > given_up:
                groups[-1] = PrefixGroup(shared, [*last.rows, i])
                continue
        groups.append(PrefixGroup(0, [i]))
    return groups


def common(one: Tokens, other: Tokens) -> int:
    """How many first tokens two rows have in common."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def batches(
    groups: Sequence[PrefixGroup], rows: Sequence[Tokens], tokens: int
) -> Iterator[list[PrefixGroup]]:
    """Groups of like size together, alone or shared, under a budget of tokens (padding counted)."""

    def size(group: PrefixGroup) -> tuple[bool, int, int]:
        own = sum(len(rows[i]) for i in group.rows) - group.shared * len(group.rows)
        return bool(group.shared), group.shared, own

    batch: list[PrefixGroup] = []
    longest_own = longest_shared = 0
    for group in sorted(groups, key=size):
        is_shared, shared, own = size(group)
        longest_own, longest_shared = max(longest_own, own), max(longest_shared, shared)
        too_much = (len(batch) + 1) * (longest_own + longest_shared) > tokens
        if batch and (too_much or bool(batch[0].shared) != is_shared):
            yield batch
            batch, longest_own, longest_shared = [], own, shared
        batch.append(group)
    if batch:
        yield batch


@quiet()
@torch.inference_mode()
def prefix_logits(
    model: PreTrainedModel,
    rows: Sequence[Tokens],
    kept: Sequence[int],
    groups: Sequence[PrefixGroup],
    pad_id: int,
) -> dict[int, Tensor]:
    """Logits ``[kept[i], V]`` at the last tokens of each row; all groups share something, or none does."""
    lines = [(g, line) for g, group in enumerate(groups) for line in _lines(group, rows)]
    own = pack_rows(
        [PromptGroup([], [list(rows[i][groups[g].shared :]) for i in line]) for g, line in lines],
        pad_id,
        model.device,
    )
    inputs = own.inputs
    if groups[0].shared:
        prefixes = [rows[group.rows[0]][: group.shared] for group in groups]
        inputs |= _prefix_inputs(
            model, prefixes, torch.tensor([g for g, _ in lines], device=model.device), own, pad_id
        )
    order = [i for _, line in lines for i in line]
    places = [
        range(end - kept[i] + 1, end + 1)
        for i, end in zip(order, own.first_and_last_decile.tolist(), strict=True)
    ]
    logits = logits_at(
        model, inputs, torch.tensor([*chain.from_iterable(places)], device=model.device)
    )
    return dict(zip(order, logits.split([kept[i] for i in order]), strict=True))


def _lines(group: PrefixGroup, rows: Sequence[Tokens]) -> Iterator[list[int]]:
    line: list[int] = []
    tokens = 0
    for i in group.rows:
        own = len(rows[i]) - group.shared
        if line and tokens + own > LINE_TOKENS:
            yield line
            line, tokens = [], 0
        line.append(i)
        tokens += own
    yield line


def _prefix_inputs(
    model: PreTrainedModel,
    prefixes: Sequence[Tokens],
    owner_R: Tensor,
    own: PackedBatch,
    pad_id: int,
) -> dict[str, Any]:
    """Read the beginnings; what the model is called with for the lines ``own`` that go on from them, line ``r`` from ``owner_R[r]``."""
    cache = DynamicCache()
    ids, seen = pad_right(prefixes, pad_id, model.device)
    model.base_model(
        input_ids=ids, attention_mask=seen, position_ids=positions(seen), **cached(model, cache)
    )
    if len(owner_R) > len(prefixes):
        cache.batch_select_indices(owner_R)
    seen = seen[owner_R]
    if own.attention.dim() == 2:  # one row in each line
        attention = torch.cat([seen, own.attention], 1)
    else:
        attention = torch.cat(
            [seen.bool()[:, None, None].expand(-1, 1, own.ids.shape[1], -1), own.attention], -1
        )
        if model.config._attn_implementation == "eager":
            attention = torch.where(attention, 0.0, torch.finfo(model.dtype).min).to(model.dtype)
    return {
        "attention_mask": attention,
        "position_ids": own.positions + seen.sum(1, keepdim=True),
        **cached(model, cache),
    }
