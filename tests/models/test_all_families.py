"""A tiny model of every family is right in all that is done with it, or refused in one line."""

import importlib
import sys

import pytest

ODD = {
    "deepseek_v32": "right",  # its cache keeps more than keys and values
    "gemma3n_text": "right",  # has several streams of hidden states
    "llama4_text": "right",  # reads in chunks
    "rembert": "right",  # its head is wider than its trunk
    "prophetnet": "refused: predicts a token from tokens that come after it",
    "roberta": "refused: reads a text in a batch otherwise than alone",
    "phimoe": "refused: reads the same text differently each time in training",
}


@pytest.fixture(scope="module")
def families(root):
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        yield importlib.import_module("families")
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("family", ODD)
def test_odd_families_are_right_or_refused(families, family):
    outcomes = families.try_family(family, ("judge", "sft")).outcomes
    assert outcomes["sft"].startswith(ODD[family])
    assert outcomes["judge"].startswith("right" if family == "phimoe" else ODD[family])


def test_a_trunk_that_a_new_class_leaves_unfilled_gets_no_scalar_head(families):
    (outcome,) = families.try_family("falcon_h1", ("reward",)).outcomes.values()
    assert outcome.startswith("refused: no model could be opened: falcon_h1 has values")


@pytest.mark.slow
def test_all_families_are_right_or_refused(families):
    results = [families.in_own_process(family, families.CHECKS) for family in families.FAMILIES]
    assert sum(bool(result.outcomes) for result in results) >= 70
    assert [result for result in results if result.is_faulty] == []
