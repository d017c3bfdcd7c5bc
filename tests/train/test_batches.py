"""Rows are cut into passes where that costs least."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cai.train.batching import MICRO_BATCH_COST, bucket_by_length


def cuts(rows, tokens, distributed):
    """All ways to cut sorted rows into parts that fit, each with its cost."""
    if not rows:
        yield 0.0, []
    for end in range(1, len(rows) + 1):
        padded = -(-end // distributed) * rows[0]
        if end > distributed and padded > tokens:
            break
        for cost, rest in cuts(rows[end:], tokens, distributed):
            yield cost + padded + MICRO_BATCH_COST * tokens, [rows[:end], *rest]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 400), max_size=9),
    st.sampled_from([64, 500, 1024]),
    st.sampled_from([1, 2]),
)
def test_no_way_to_cut_costs_less(sizes, tokens, distributed):
    parts = bucket_by_length(sizes, tokens, distributed)
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    cost = sum(
        -(-len(part) // distributed) * sizes[part[0]] + MICRO_BATCH_COST * tokens for part in parts
    )
    assert cost == min(cost for cost, _ in cuts(sorted(sizes, reverse=True), tokens, distributed))


def test_rows_of_one_length_fill_the_passes_and_others_stand_apart():
    assert [len(part) for part in bucket_by_length([100] * 25, 1024)] == [5, 10, 10]
    assert bucket_by_length([62, 71, 83, 89, 127, 232, 241, 362], 1024) == [
        [7],
        [6, 5],
        [4],
        [3, 2],
        [1, 0],
    ]
    assert bucket_by_length([], 1024) == [] and bucket_by_length([5000], 1024) == [[0]]
