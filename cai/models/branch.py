"""Reading rows that begin alike: the shared beginning once, then each row's own part from its cached keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cai.models.padding import pad_right, positions

WORTH_SHARING = 12
"""Tokens that rows must have in common before a second pass over the model pays."""

Tokens = Sequence[int]


class Group(NamedTuple):
    """Rows whose first ``shared`` tokens are the same; 0 where a row stands alone."""

    shared: int
    rows: list[int]


def group_by_prefix(rows: Sequence[Tokens]) -> list[Group]:
    """Put distinct rows into groups so that few tokens are read; at least one token stays each row's own."""
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    groups: list[Group] = []
    for i in order:
        if groups:
            last = groups[-1]
            shared = min(common(rows[last.rows[-1]], rows[i]), last.shared or len(rows[i]), len(rows[i]) - 1, len(rows[last.rows[0]]) - 1)
            # reading the group's rows from a shorter beginning costs; reading this one's beginning again costs as well
            given_up = (last.shared - shared) * (len(last.rows) - 1) if last.shared else 0
            if shared >= WORTH_SHARING and shared > given_up:
                groups[-1] = Group(shared, [*last.rows, i])
                continue
        groups.append(Group(0, [i]))
    return groups


def common(one: Tokens, other: Tokens) -> int:
    """How many first tokens two rows have in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def can_share(model: PreTrainedModel, longest: int) -> bool:
    """Whether a row can be read in two parts: not by models with a state, nor beyond a sliding window."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    return not getattr(model, "_is_stateful", False) and (window is None or longest <= window)


def batches(groups: Sequence[Group], rows: Sequence[Tokens], tokens: int, most_rows: int) -> Iterator[list[Group]]:
    """Groups of like size together, alone or shared, under a budget of tokens (padding counted) and of rows."""

    def size(group: Group) -> tuple[bool, int, int]:
        return bool(group.shared), max(len(rows[i]) for i in group.rows) - group.shared, group.shared

    batch: list[Group] = []
    longest_own = longest_shared = count = 0
    for group in sorted(groups, key=size):
        is_shared, own, shared = size(group)
        longest_own, longest_shared, count = max(longest_own, own), max(longest_shared, shared), count + len(group.rows)
        too_much = count * longest_own + (len(batch) + 1) * longest_shared > tokens or count > most_rows
        if batch and (too_much or bool(batch[0].shared) != is_shared):
            yield batch
            batch, longest_own, longest_shared, count = [], own, shared, len(group.rows)
        batch.append(group)
    if batch:
        yield batch


@torch.inference_mode()
def read_groups(model: PreTrainedModel, rows: Sequence[Tokens], groups: Sequence[Group], pad_id: int) -> dict[int, Tensor]:
    """The last hidden states ``[n, D]`` of each row's own part; all groups share something, or none does."""
    device, cache, before = model.device, None, torch.zeros(0)
    if groups[0].shared:
        cache = DynamicCache()
        beginnings, seen = pad_right([rows[group.rows[0]][: group.shared] for group in groups], pad_id, device)
        model.base_model(input_ids=beginnings, attention_mask=seen, position_ids=positions(seen), past_key_values=cache, use_cache=True)
        owner = torch.tensor([g for g, group in enumerate(groups) for _ in group.rows], device=device)
        cache.batch_select_indices(owner)
        before = seen[owner]
    members = [(i, group.shared) for group in groups for i in group.rows]
    own, mask = pad_right([rows[i][shared:] for i, shared in members], pad_id, device)
    whole = torch.cat([before, mask], 1) if cache is not None else mask
    hidden = model.base_model(
        input_ids=own, attention_mask=whole, position_ids=positions(whole)[:, -own.shape[1] :], past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state  # fmt: skip
    return {i: hidden[row, : len(rows[i]) - shared] for row, (i, shared) in enumerate(members)}
