"""Rows read from a shared beginning equal rows read whole."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cai.backends.local import LocalBackend
from cai.models.branch import Group, batches, common, group_by_prefix, read_groups
from cai.models.padding import pad_right


@pytest.fixture(params=["tiny", "tiny_gpt2"])
def model(request):
    return LocalBackend(request.getfixturevalue(request.param)).language_model.model


def some_rows(vocabulary: int) -> list[list[int]]:
    rng = random.Random(0)

    def words(n):
        return [rng.randrange(5, vocabulary) for _ in range(n)]

    head, one, two = words(20), words(15), words(30)
    return [head + one + words(n) for n in (1, 4, 9)] + [head + two + words(n) for n in (3, 2)] + [words(8), words(40), head + one]


def test_shared_equals_whole(model):
    rows = some_rows(model.config.vocab_size)
    groups = group_by_prefix(rows)
    assert any(len(g.rows) >= 3 and g.shared >= 34 for g in groups) and any(g.shared == 0 for g in groups)
    seen = set()
    for batch in batches(groups, rows, 10_000, 100):
        for i, hidden in read_groups(model, rows, batch, 0).items():
            with torch.no_grad():
                whole = model.base_model(input_ids=torch.tensor([rows[i]])).last_hidden_state[0]
            assert torch.allclose(hidden, whole[-len(hidden) :], atol=1e-4)
            seen.add(i)
    assert seen == set(range(len(rows)))


def test_a_wrong_owner_of_the_beginning_shows(model):
    rows = some_rows(model.config.vocab_size)
    wrong = [rows[3], rows[0]]
    read = read_groups(model, wrong, [Group(35, [0, 1])], 0)  # row 1 begins otherwise
    with torch.no_grad():
        whole = model.base_model(input_ids=torch.tensor([wrong[1]])).last_hidden_state[0]
    assert not torch.allclose(read[1], whole[-len(read[1]) :], atol=1e-2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60).map(tuple), min_size=1, max_size=25, unique=True), st.integers(20, 400)
)
def test_grouping_covers_each_row_once_and_never_reads_more(rows, budget):
    groups = group_by_prefix(rows)
    assert sorted(i for g in groups for i in g.rows) == list(range(len(rows)))
    for group in groups:
        first = rows[group.rows[0]]
        assert all(common(first, rows[i]) >= group.shared and len(rows[i]) > group.shared for i in group.rows)
    read = sum(g.shared + sum(len(rows[i]) - g.shared for i in g.rows) for g in groups)
    assert read <= sum(map(len, rows))
    made = list(batches(groups, rows, budget, 7))
    assert sorted(i for batch in made for g in batch for i in g.rows) == list(range(len(rows)))
    for batch in made:
        assert len({bool(g.shared) for g in batch}) == 1
        ids, mask = pad_right([rows[g.rows[0]] for g in batch], 0, torch.device("cpu"))
        assert ids.shape == mask.shape and mask.sum(1).tolist() == [len(rows[g.rows[0]]) for g in batch]
