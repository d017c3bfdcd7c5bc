"""Tokenized examples, and how rows are cut into batches and micro-batches."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_data import GOOD, PROMPTS

from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.models.packing.layout import pack_rows
from cai.train.batching import (
    MICRO_BATCH_COST,
    bucket_by_length,
    epoch_batches,
    min_cost_partition,
    tokenize,
)
from cai.train.loop import MicroBatch, micro_batches


def test_tokenize_ends_in_the_stop_token(tiny):
    tokenizer = load_tokenizer(tiny)
    row = tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 100)
    assert row.answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.answer) == " I am glad to help.<|end|>"
    assert tokenizer.decode(row.prompt) == "<|user|> Wash the dog.<|end|><|assistant|>"
    assert tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 10) is None


def test_only_answer_tokens_are_targets(tiny):
    tokenizer = load_tokenizer(tiny)
    row = tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 100)
    short = tokenize(ChatFormat(tokenizer), PROMPTS[1], "Yo.", 100)
    groups = [row.prompt_group, short.prompt_group]
    packed = pack_rows(groups, tokenizer.pad_token_id, torch.device("cpu"))
    assert packed.lengths().tolist() == [len(row.answer), 3]
    assert packed.attention.sum(1)[1] == len(short.prompt) + 3
    assert packed.targets.tolist() == row.answer + short.answer


def test_epoch_batches_hold_every_row_once_in_keyed_order():
    lengths = [3, 9, 4, 4, 8, 1, 7]
    batches = list(epoch_batches(lengths, 3, 0, "x"))
    assert sorted(row for batch in batches for row in batch) == list(range(7))
    assert batches == list(epoch_batches(lengths, 3, 0, "x"))
    assert batches != list(epoch_batches(lengths, 3, 1, "x"))


def partitions(rows, max_tokens, processes):
    """All ways to cut sorted rows into micro-batches that fit, each with its cost."""
    if not rows:
        yield 0.0, []
    for end in range(1, len(rows) + 1):
        padded = -(-end // processes) * rows[0]
        if end > processes and padded > max_tokens:
            break
        for cost, rest in partitions(rows[end:], max_tokens, processes):
            yield cost + padded + MICRO_BATCH_COST * max_tokens, [rows[:end], *rest]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 400), max_size=9),
    st.sampled_from([64, 500, 1024]),
    st.sampled_from([1, 2]),
)
def test_bucket_by_length_has_the_least_cost(lengths, max_tokens, processes):
    buckets = bucket_by_length(lengths, max_tokens, processes)
    assert sorted(row for bucket in buckets for row in bucket) == list(range(len(lengths)))
    cost = sum(
        -(-len(bucket) // processes) * lengths[bucket[0]] + MICRO_BATCH_COST * max_tokens
        for bucket in buckets
    )
    longest_first = sorted(lengths, reverse=True)
    assert cost == min(cost for cost, _ in partitions(longest_first, max_tokens, processes))


def test_bucket_by_length_separates_unlike_lengths():
    assert [len(bucket) for bucket in bucket_by_length([100] * 25, 1024)] == [5, 10, 10]
    lengths = [62, 71, 83, 89, 127, 232, 241, 362]
    assert bucket_by_length(lengths, 1024) == [[7], [6, 5], [4], [3, 2], [1, 0]]
    assert bucket_by_length([], 1024) == []
    assert bucket_by_length([5000], 1024) == [[0]]


def test_min_cost_partition_respects_the_first_begin():
    """Parts of at most two items; the second item is dear at the begin of a part."""
    price = [1.0, 9.0, 1.0, 1.0, 1.0]

    def costs(end):
        first = max(0, end - 2)
        return first, torch.tensor(price[first:end], dtype=torch.float64)

    assert min_cost_partition(5, costs) == [(0, 2), (2, 3), (3, 5)]
    assert min_cost_partition(0, costs) == []


def test_micro_batches_are_frozen_and_equal_in_number(monkeypatch):
    lengths = [5, 5, 5]
    weights = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        parts = micro_batches([0, 1, 2], lengths, 5)
        weights.append([part.weights for part in parts])
    assert weights == [[(1.0,), (1.0,)], [(0.0,), (1.0,)]]  # process 1 reads along once, uncounted
    with pytest.raises(dataclasses.FrozenInstanceError):
        MicroBatch((0,), (1.0,)).rows = (1,)
