"""Rows read from a shared beginning equal rows read whole."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.backends.local import LocalBackend
from cai.models.packing.grouping import (
    PrefixGroup,
    batch_groups,
    common_prefix_length,
    group_by_prefix,
)
from cai.models.packing.padding import pad_right
from cai.models.packing.prefix import group_rows, prefix_logits


@pytest.fixture(params=["tiny", "tiny_gpt2"])
def model(request):
    return LocalBackend(request.getfixturevalue(request.param)).language_model.model


def some_rows(vocabulary: int) -> list[list[int]]:
    rng = random.Random(0)

    def words(n):
        return [rng.randrange(5, vocabulary) for _ in range(n)]

    head, one, two = words(20), words(15), words(30)
    return (
        [head + one + words(n) for n in (1, 4, 9)]
        + [head + two + words(n) for n in (3, 2)]
        + [words(8), words(40), head + one]
    )


def whole_logits(model, row):
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0]


@pytest.mark.parametrize("max_tokens", [10_000, 20])  # one pass; several from the same prefix
@pytest.mark.parametrize("line_tokens", [512, 7])  # all own parts in one line; lines that hold few
def test_shared_equals_whole(model, monkeypatch, line_tokens, max_tokens):
    monkeypatch.setattr("cai.models.packing.prefix.MAX_LINE_TOKENS", line_tokens)
    rows = some_rows(model.config.vocab_size)
    kept = [1 + i % 2 if len(row) > 36 or i == 5 else 1 for i, row in enumerate(rows)]
    groups = group_rows(model, rows, kept)
    assert any(len(g.rows) >= 3 and g.shared >= 34 for g in groups) and any(
        g.shared == 0 for g in groups
    )
    seen = set()
    for batch in batch_groups(groups, rows, 10_000):
        passes = list(prefix_logits(model, rows, kept, batch, pad_id=0, max_tokens=max_tokens))
        for i, logits in (item for logits_of_row in passes for item in logits_of_row.items()):
            assert (
                torch.allclose(logits, whole_logits(model, rows[i])[-kept[i] :], atol=1e-4)
                and len(logits) == kept[i]
            )
            assert i not in seen
            seen.add(i)
    assert seen == set(range(len(rows)))


def test_a_wrong_owner_of_the_beginning_shows(model):
    rows = some_rows(model.config.vocab_size)
    wrong = [rows[3], rows[0]]
    (answer_logits,) = prefix_logits(  # row 1 begins otherwise
        model, wrong, [1, 1], [PrefixGroup(35, [0, 1])], pad_id=0, max_tokens=1_024
    )
    assert not torch.allclose(answer_logits[1], whole_logits(model, wrong[1])[-1:], atol=1e-2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 1), min_size=1, max_size=60).map(tuple),
        min_size=1,
        max_size=25,
        unique=True,
    ),
    st.integers(20, 400),
)
def test_grouping_covers_each_row_once_and_never_reads_more(rows, budget):
    kept = [min(len(row), 1 + i % 3) for i, row in enumerate(rows)]
    groups = group_by_prefix(rows, kept)
    assert sorted(i for g in groups for i in g.rows) == list(range(len(rows)))
    for group in groups:
        first = rows[group.rows[0]]
        assert all(
            common_prefix_length(first, rows[i]) >= group.shared
            and len(rows[i]) - kept[i] >= group.shared
            for i in group.rows
        )
    answer_logits = sum(g.shared + sum(len(rows[i]) - g.shared for i in g.rows) for g in groups)
    assert answer_logits <= sum(map(len, rows))
    made = list(batch_groups(groups, rows, budget))
    assert sorted(i for batch in made for g in batch for i in g.rows) == list(range(len(rows)))
    for batch in made:
        assert len({bool(g.shared) for g in batch}) == 1
        ids, mask = pad_right([rows[g.rows[0]] for g in batch], 0, torch.device("cpu"))
        assert ids.shape == mask.shape and mask.sum(1).tolist() == [
            len(rows[g.rows[0]]) for g in batch
        ]


def sizes(groups):
    return sorted((group.shared, len(group.rows)) for group in groups)


def test_a_prefix_is_shared_where_that_saves_a_third():
    words = iter(range(100_000))
    system, talk = [next(words) for _ in range(30)], [next(words) for _ in range(200)]

    def own(count, length):
        return [[next(words) for _ in range(length)] for _ in range(count)]

    strangers = [system + row for row in own(100, 270)]  # 30 tokens of 300 in common
    assert sizes(group_by_prefix(strangers, [1] * 100)) == [(0, 1)] * 100
    principles = [system + talk + row for row in own(16, 40)]  # within the same system prompt
    groups = group_by_prefix(strangers + principles, [1] * 116)
    assert sizes(groups) == [(0, 1)] * 100 + [(230, 16)]
    short = [system + row for row in own(100, 10)]
    assert sizes(group_by_prefix(short, [1] * 100)) == [(30, 100)]


def test_no_pass_is_over_the_budget(model, monkeypatch):
    """However many rows share a prefix, and however long they are."""
    rng = random.Random(0)
    rows = [[1] * 40 + [rng.randrange(5, 90) for _ in range(5 + i % 9)] for i in range(60)]
    groups = group_rows(model, rows, [1] * len(rows))
    assert sizes(groups) == [(40, 60)]
    sizes_read = []
    forward = type(model.base_model).forward

    def watched(self, input_ids, **others):
        sizes_read.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **others)

    monkeypatch.setattr(type(model.base_model), "forward", watched)
    (batch,) = batch_groups(groups, rows, 64)
    passes = list(prefix_logits(model, rows, [1] * 60, batch, pad_id=0, max_tokens=64))
    assert sum(map(len, passes)) == 60
    assert len(passes) > 5
    assert max(sizes_read) <= 64
