"""Choose which rows share a prefix, so that few tokens are read.

Sorted rows that begin alike are neighbors, and the places where they part form a tree: rows with
one system prompt, within them the rows of one conversation, within those the rows of one answer. At
each branch either all of its rows share one prefix, or its branches choose for themselves,
whichever reads fewer tokens. A prefix is only shared where that saves a third of the tokens: it
costs a second pass over the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

MIN_SHARED_TOKENS = 12
"""Tokens that rows must have in common before a second pass over the model pays."""
MIN_SAVED = 1 / 3
"""Fraction of the tokens that must be saved."""

Tokens = Sequence[int]


class PrefixGroup(NamedTuple):
    """Rows that begin with the same tokens.

    Attributes:
        shared: Number of first tokens that are the same; 0 for a row that is read alone.
        rows: Indices of the rows.
    """

    shared: int
    rows: list[int]


class _Plan(NamedTuple):
    """How neighboring rows are read.

    Attributes:
        saved: Tokens that are not read, because a prefix is shared.
        groups: The groups.
    """

    saved: int
    groups: list[PrefixGroup]


class _Branch(NamedTuple):
    """Neighboring rows with the same first tokens, whose end is not reached yet.

    Attributes:
        shared: Number of first tokens that are the same.
        plans: The plans of its parts, in order.
    """

    shared: int
    plans: list[_Plan]


def group_by_prefix(rows: Sequence[Tokens], num_logits: Sequence[int]) -> list[PrefixGroup]:
    """Group rows so that few tokens are read.

    Args:
        rows: Token ids of distinct rows.
        num_logits: For each row, how many of its last tokens must stay in its suffix.

    Returns:
        Groups that hold each row once.
    """
    order = sorted(range(len(rows)), key=lambda i: tuple(rows[i]))
    branches = [_Branch(0, [])]  # from the root to the branch of the present row
    for place, i in enumerate(order):
        common = _common(rows, num_logits, i, order[place + 1]) if place + 1 < len(order) else 0
        if common > branches[-1].shared:
            branches.append(_Branch(common, []))
        branches[-1].plans.append(_Plan(0, [PrefixGroup(0, [i])]))
        while branches[-1].shared > common:
            plan = _best(branches.pop(), rows)
            if branches[-1].shared < common:
                branches.append(_Branch(common, []))
            branches[-1].plans.append(plan)
    return [group for plan in branches[0].plans for group in plan.groups]


def _common(rows: Sequence[Tokens], num_logits: Sequence[int], first: int, second: int) -> int:
    """Count the tokens that two rows can share."""
    longest = min(len(rows[i]) - num_logits[i] for i in (first, second))
    return min(common_prefix_length(rows[first], rows[second]), longest)


def _best(branch: _Branch, rows: Sequence[Tokens]) -> _Plan:
    """Choose between one prefix for all rows of a branch and the plans of its parts."""
    groups = [group for plan in branch.plans for group in plan.groups]
    apart = _Plan(sum(plan.saved for plan in branch.plans), groups)
    members = [i for group in groups for i in group.rows]
    saved = branch.shared * (len(members) - 1)
    tokens = sum(len(rows[i]) for i in members)
    pays = branch.shared >= MIN_SHARED_TOKENS and saved >= MIN_SAVED * tokens
    if pays and saved > apart.saved:
        return _Plan(saved, [PrefixGroup(branch.shared, members)])
    return apart


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
