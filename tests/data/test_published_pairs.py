"""Pairs with labels, as the data sets of judges publish them."""

import json
import os
from pathlib import Path

import pytest

from cai.data.pair_labels import majority
from cai.data.pairs import read_pairs
from cai.errors import InputError

FOLDER = "CAI_PUBLISHED_DATA"
"""The variable with a folder of published files; without it, the tests on them are skipped."""
A, B = "Hi!", "No."


@pytest.fixture
def read(tmp_path):
    def call(*rows, name="pairs.jsonl", **options):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))  # NaN as Python writes it
        return read_pairs(path, **options)

    return call


def judgebench(label):
    return {
        "pair_id": "81ec",
        "original_id": "10646",
        "source": "mmlu-pro-math",
        "question": "Hello",
        "response_model": "gpt-4o",
        "response_A": A,
        "response_B": B,
        "label": label,
    }


def pandalm(*votes):
    row = {
        "idx": 4,
        "motivation_app": "Search",
        "cmp_key": "llama-7b_opt-7b",
        "instruction": "Hello",
        "input": float("nan"),
        "response1": A,
        "response2": B,
    }
    return row | {f"annotator{i}": vote for i, vote in enumerate(votes, start=1)}


def autoj(label):
    return {
        "scenario": "seeking_advice",
        "label": label,
        "prompt": "Hello",
        "response 1": A,
        "response 2": B,
    }


def arena(winner, turns=1, **columns):
    def talk(answer):
        said = [("user", "Hello"), ("assistant", answer), ("user", "So?"), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in said]

    return {
        "question_id": 81,
        "model_a": "gpt-4",
        "model_b": "llama-13b",
        "winner": winner,
        "conversation_a": talk(A),
        "conversation_b": talk(B),
        "turn": turns,
        **columns,
    }


def alpaca(preference, annotator=1):
    return {
        "instruction": "Hello",
        "input": "",
        "output_1": A,
        "output_2": B,
        "generator_1": "davinci",
        "generator_2": "llama",
        "preference": preference,
        "annotator_index": annotator,
    }


PUBLISHED = [
    (judgebench("A>B"), 1.0),
    (judgebench("B>A"), 0.0),
    (judgebench("[[A>>B]]"), 1.0),
    (judgebench("A<B"), 0.0),
    (judgebench("A=B"), 0.5),
    (pandalm(1, 1, 1), 1.0),
    (pandalm(1, 2, 2), 0.0),
    (pandalm(0, 0, 1), 0.5),
    (pandalm(0, 1, 2), 0.5),
    (autoj(0), 1.0),
    (autoj(1), 0.0),
    (autoj(2), 0.5),
    (arena("model_a"), 1.0),
    (arena("model_b"), 0.0),
    (arena("tie"), 0.5),
    (arena("tie (bothbad)"), 0.5),
    (arena("llama-13b"), 0.0),
    (alpaca(1), 1.0),
    (alpaca(2), 0.0),
    (alpaca(1.25), 0.75),
    ({"input": "Hello", "output_1": A, "output_2": B, "label": 2}, 0.0),
    ({"prompt": "Hello", "response 1": A, "response 2": B, "label": 1}, 1.0),
    ({"prompt": "Hello", "first": A, "second": B, "label": ["A", "B", "B"]}, 0.0),
    ({"prompt": "Hello", "first": A, "second": B, "vote_1": "A", "vote_2": None}, 1.0),
]


@pytest.mark.parametrize(("row", "p_first"), PUBLISHED, ids=lambda v: json.dumps(v)[-40:])
def test_published_shapes(read, row, p_first):
    file = read(row)
    (pair,) = file.comparisons
    assert (pair.prompt.text, pair.first, pair.second) == ("Hello", A, B)
    assert [label.p_first for label in file.gold] == [p_first]


def test_models_and_subsets_are_known(read):
    assert read(arena("tie")).comparisons[0].origins == ("gpt-4", "llama-13b")
    assert read(pandalm(1, 1, 1)).comparisons[0].origins == ("llama-7b", "opt-7b")
    assert read(alpaca(1)).comparisons[0].origins == ("davinci", "llama")
    file = read(judgebench("A>B"))
    assert file.subsets == {file.comparisons[0].id: {"source": "mmlu-pro-math"}}
    file = read(pandalm(1, 1, 1), subset="motivation_app")
    assert file.subsets[file.comparisons[0].id] == {"motivation_app": "Search"}
    row = {"prompt": "Hello", "chosen": A, "rejected": B, "subset": "chat"}
    file = read(row | {"chosen_model": "good", "rejected_model": "bad"})
    pair, label = file.comparisons[0], file.gold[0]
    assert pair.origins == (("good", "bad") if label.p_first == 1 else ("bad", "good"))
    assert file.subsets == {pair.id: {"subset": "chat"}}


def test_annotators_in_columns_or_in_rows_of_their_own(read):
    file = read(pandalm(0, 1, 2))
    assert file.votes == {
        file.comparisons[0].id: {"annotator1": 0.5, "annotator2": 1.0, "annotator3": 0.0}
    }
    rows = [arena("model_a", judge=f"expert_{i}") for i in range(2)]
    swapped = arena("model_a", judge="expert_2")  # sees the same answers in the other order
    for name in ("model", "conversation"):
        a, b = f"{name}_a", f"{name}_b"
        swapped[a], swapped[b] = swapped[b], swapped[a]
    file = read(*rows, swapped, rows[0])
    assert file.votes == {
        file.comparisons[0].id: {"expert_0": 1.0, "expert_1": 1.0, "expert_2": 0.0}
    }
    assert [g.p_first for g in file.gold] == [1.0] and file.skipped == {"duplicate": 1}


def test_second_turns_answer_different_conversations(read):
    file = read(arena("model_a"), arena("model_b", turns=2, question_id=82))
    assert len(file.comparisons) == 1
    assert file.skipped == {"the two conversations begin differently": 1}
    with pytest.raises(InputError, match="has no pairs of answers: the two conversations begin"):
        read(arena("model_b", turns=2))


def test_what_numbers_mean_can_be_said(read):
    row = {"prompt": "Hello", "output_1": A, "output_2": B, "label": 0}
    with pytest.raises(InputError, match=r":1:1: label must name one of the answers"):
        read(row)
    assert [g.p_first for g in read(row, codes={"0": 1.0}).gold] == [1.0]


def test_records_of_people_have_labels_and_those_of_judges_have_none(read):
    pair = read({"prompt": "Hello", "first": A, "second": B}).comparisons[0].model_dump()
    record = {"id": "x", "comparison": pair, "p_first": 0.0, "source": "human"}
    assert [g.p_first for g in read(record).gold] == [0.0]
    assert read(record | {"source": "ai"}).gold == []


def test_many_rows_with_the_same_fault_are_one_line(read):
    with pytest.raises(InputError, match="and 19 more like this") as error:
        read(*(judgebench(f"C{i}") for i in range(20)))
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("votes", "label"),
    [([1.0, 1.0, 0.0], 1.0), ([1.0, 0.0], 0.5), ([0.5, 0.5, 1.0], 0.5), ([0.7], 0.7)],
)
def test_the_majority_decides(votes, label):
    assert majority(votes) == label


def real(name):
    if FOLDER not in os.environ:
        pytest.skip(f"{FOLDER} names no folder with {name}")
    return Path(os.environ[FOLDER]) / name


def test_llmbar_as_published():
    file = read_pairs(real("llmbar-Natural-dataset.json"))
    assert len(file.comparisons) == len(file.gold) == 100
    assert sum(g.p_first for g in file.gold) == 42


def test_hh_rlhf_as_published():
    file = read_pairs(real("hh-rlhf-harmless-test-0000-1199.jsonl"))
    assert len(file.gold) > 1150 and sum(file.skipped.values()) > 0
    assert 0.4 < sum(g.p_first for g in file.gold) / len(file.gold) < 0.6
