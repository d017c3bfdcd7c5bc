"""Read rows that begin alike: the shared prefix once, then each row's suffix from cached keys.

Rows are grouped by a common prefix. The suffixes of one group are packed one after the other into
*lines*, each blind to the others, so that the cached keys of the prefix are read where they lie; a
copy of them for every row would cost more than the attention to them::

    rows                       prefix groups                 lines
    0  s s s s s a a           G0  shared 5, rows 0 1 2      line 0  G0  a a b c c
    1  s s s s s b                                           line 1  G1  u u d
    2  s s s s s c c           G1  shared 7, rows 3 4
    3  t t t t t t t u u
    4  t t t t t t t d

    pass 1: the prefixes of G0 and G1, which fill the key-value cache
    pass 2: the lines; token "b" attends to s s s s s b and to nothing else

Logits are wanted at the last ``num_logits[i]`` tokens of row ``i``, so those stay in its suffix.
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
    uses_additive_mask,
)
from cai.models.packing.logits import logits_at
from cai.models.packing.padding import pad_right, positions
from cai.quiet import quiet

MIN_SHARED_TOKENS = 12
"""Tokens that rows must have in common before a second pass over the model pays."""
MAX_LINE_TOKENS = 512
"""Suffix tokens of one line; attention within a line grows with its square."""

Tokens = Sequence[int]


class PrefixGroup(NamedTuple):
    """Rows that begin with the same tokens.

    Attributes:
        shared: Number of first tokens that are the same; 0 for a row that is read alone.
        rows: Indices of the rows.
    """

    shared: int
    rows: list[int]


class Line(NamedTuple):
    """Suffixes that are packed into one row.

    Attributes:
        group: Index of their prefix group.
        rows: Indices of the rows whose suffixes these are.
    """

    group: int
    rows: list[int]


def group_rows(
    model: PreTrainedModel, rows: Sequence[Tokens], num_logits: Sequence[int]
) -> list[PrefixGroup]:
    """Group rows as far as the model can share prefixes; see :func:`group_by_prefix`."""
    if rows and supports_tree_attention(model) and can_share_prefix(model, max(map(len, rows))):
        return group_by_prefix(rows, num_logits)
    return [PrefixGroup(0, [i]) for i in range(len(rows))]


def group_by_prefix(rows: Sequence[Tokens], num_logits: Sequence[int]) -> list[PrefixGroup]:
    """Group rows so that few tokens are read.

    Rows are sorted, so that those which begin alike are neighbors; a row then joins the group
    before it where that saves tokens.

    Args:
        rows: Token ids of distinct rows.
        num_logits: For each row, how many of its last tokens must stay in its suffix.

    Returns:
        Groups that hold each row once.
    """
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    groups: list[PrefixGroup] = []
    for i in order:
        joined = _join(groups[-1], i, rows, num_logits) if groups else None
        if joined:
            groups[-1] = joined
        else:
            groups.append(PrefixGroup(0, [i]))
    return groups


def _join(
    group: PrefixGroup, row: int, rows: Sequence[Tokens], num_logits: Sequence[int]
) -> PrefixGroup | None:
    """Add a row to a group, or return None where it would not save tokens."""
    shared = min(
        common_prefix_length(rows[group.rows[-1]], rows[row]), len(rows[row]) - num_logits[row]
    )
    if group.shared:
        shared = min(shared, group.shared)
        # the group's rows would be read from a shorter prefix
        lost_tokens = (group.shared - shared) * (len(group.rows) - 1)
    else:
        first = group.rows[0]
        shared = min(shared, len(rows[first]) - num_logits[first])
        lost_tokens = 0
    if shared < MIN_SHARED_TOKENS or shared <= lost_tokens:
        return None
    return PrefixGroup(shared, [*group.rows, row])


def common_prefix_length(first: Tokens, second: Tokens) -> int:
    """Count the first tokens that two rows have in common."""
    for length, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return length
    return min(len(first), len(second))


def batch_groups(
    groups: Sequence[PrefixGroup], rows: Sequence[Tokens], max_tokens: int
) -> Iterator[list[PrefixGroup]]:
    """Batch groups of like size under a token budget, padding counted.

    Groups with a shared prefix and rows without one are never in one batch.
    """

    def size(group: PrefixGroup) -> tuple[bool, int, int]:
        suffix_tokens = sum(len(rows[i]) - group.shared for i in group.rows)
        return bool(group.shared), group.shared, suffix_tokens

    batch: list[PrefixGroup] = []
    longest_suffixes = longest_prefix = 0
    for group in sorted(groups, key=size):
        is_shared, prefix, suffixes = size(group)
        longest_suffixes = max(longest_suffixes, suffixes)
        longest_prefix = max(longest_prefix, prefix)
        is_over = (len(batch) + 1) * (longest_suffixes + longest_prefix) > max_tokens
        if batch and (is_over or bool(batch[0].shared) != is_shared):
            yield batch
            batch, longest_suffixes, longest_prefix = [], suffixes, prefix
        batch.append(group)
    if batch:
        yield batch


@quiet()
@torch.inference_mode()
def prefix_logits(
    model: PreTrainedModel,
    rows: Sequence[Tokens],
    num_logits: Sequence[int],
    groups: Sequence[PrefixGroup],
    pad_id: int,
) -> dict[int, Tensor]:
    """Read a batch of groups.

    Args:
        model: The model to read with.
        rows: Token ids of all rows.
        num_logits: For each row, at how many of its last tokens logits are wanted.
        groups: The groups to read: all of them share a prefix, or none does.
        pad_id: Token id to pad with.

    Returns:
        For each row of the groups, logits ``[num_logits[i], V]`` at its last tokens.
    """
    lines = [line for number, group in enumerate(groups) for line in _lines(number, group, rows)]
    suffixes = _pack_suffixes(model, lines, groups, rows, pad_id)
    inputs = suffixes.inputs
    if groups[0].shared:
        prefixes = [rows[group.rows[0]][: group.shared] for group in groups]
        group_of_line = torch.tensor([line.group for line in lines], device=model.device)
        inputs |= _prefix_inputs(model, prefixes, group_of_line, suffixes, pad_id)
    order = [i for line in lines for i in line.rows]
    ends = suffixes.answer_ends.tolist()
    places = [range(end - num_logits[i] + 1, end + 1) for i, end in zip(order, ends, strict=True)]
    wanted = torch.tensor(list(chain.from_iterable(places)), device=model.device)
    logits = logits_at(model, inputs, wanted)
    return dict(zip(order, torch.split(logits, [num_logits[i] for i in order]), strict=True))


def _pack_suffixes(
    model: PreTrainedModel,
    lines: Sequence[Line],
    groups: Sequence[PrefixGroup],
    rows: Sequence[Tokens],
    pad_id: int,
) -> PackedBatch:
    """Pack each line as answers to an empty prompt; the prefix comes from the cache."""
    packed = [
        PromptGroup([], [list(rows[i][groups[line.group].shared :]) for i in line.rows])
        for line in lines
    ]
    return pack_rows(packed, pad_id, model.device)


def _lines(number: int, group: PrefixGroup, rows: Sequence[Tokens]) -> Iterator[Line]:
    """Cut the suffixes of a group into lines of at most ``MAX_LINE_TOKENS``."""
    line: list[int] = []
    tokens = 0
    for i in group.rows:
        suffix = len(rows[i]) - group.shared
        if line and tokens + suffix > MAX_LINE_TOKENS:
            yield Line(number, line)
            line, tokens = [], 0
        line.append(i)
        tokens += suffix
    yield Line(number, line)


def _prefix_inputs(
    model: PreTrainedModel,
    prefixes: Sequence[Tokens],
    group_of_line: Tensor,
    suffixes: PackedBatch,
    pad_id: int,
) -> dict[str, Any]:
    """Read the prefixes into a cache and make the inputs of the lines that continue them.

    Args:
        model: The model to read with.
        prefixes: Token ids of the ``G`` prefixes.
        group_of_line: Which prefix each line continues, ``[R]``.
        suffixes: The lines, ``R`` rows.
        pad_id: Token id to pad with.
    """
    cache = DynamicCache()
    ids, prefix_mask = pad_right(prefixes, pad_id, model.device)
    model.base_model(
        input_ids=ids,
        attention_mask=prefix_mask,
        position_ids=positions(prefix_mask),
        **cached(model, cache),
    )
    if len(group_of_line) > len(prefixes):
        cache.batch_select_indices(group_of_line)
    prefix_mask = prefix_mask[group_of_line]
    if suffixes.attention.dim() == 2:  # one suffix in each line
        attention = torch.cat([prefix_mask, suffixes.attention], 1)
    else:
        seen = prefix_mask.bool()[:, None, None].expand(-1, 1, suffixes.ids.shape[1], -1)
        attention = torch.cat([seen, suffixes.attention], -1)
        if uses_additive_mask(model):
            attention = torch.where(attention, 0.0, torch.finfo(model.dtype).min).to(model.dtype)
    return {
        "attention_mask": attention,
        "position_ids": suffixes.positions + prefix_mask.sum(1, keepdim=True),
        **cached(model, cache),
    }
