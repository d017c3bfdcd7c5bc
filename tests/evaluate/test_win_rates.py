"""Win rates of labels: ties are half wins, equal answers are ties, what is unread is left out."""

import pytest

from cai.evaluate.win_rates import (
    answer_pairs,
    is_equal,
    label_pairs,
    outcomes,
    win_of,
    win_rate,
    win_rates,
)
from cai.records import Comparison, Preference, Prompt, Provenance, Sample

PROVENANCE = Provenance(model="m", seed=0, temperature=1, max_tokens=9)


def answer(text, status="ok", prompt="q"):
    return Sample(
        id=text, prompt=Prompt.of(prompt), response=text, status=status, provenance=PROVENANCE
    )


def label(p, prompt="q", origins=("", "")):
    pair = Comparison.of(Prompt.of(prompt), "a", "b", origins)
    status = "ok" if p is not None else "unscored"
    return Preference(id="p", comparison=pair, p_first=p, source="ai", status=status)


def test_a_near_tie_is_half_a_win():
    labels = (0.0, 0.39, 0.45, 0.5, 0.59, 0.61, 1.0)
    assert [win_of(p) for p in labels] == [0, 0, 0.5, 0.5, 0.5, 1, 1]


def test_labels_that_cannot_be_read_are_left_out():
    rate = win_rate([label(p, str(i)) for i, p in enumerate((0.9, 0.55, 0.2, 0.7, None))])
    assert rate.value == pytest.approx(2.5 / 4)
    assert (rate.n, rate.clusters) == (4, 4)
    assert win_rate([label(None)]) is None


def test_two_labels_of_one_conversation_are_one_cluster():
    assert win_rate([label(0.9), label(0.9), label(0.1, "other")]).clusters == 2


def test_answers_of_a_policy_itself_are_paired():
    ours = [answer("a"), answer("same"), answer("", "failed"), answer("cut", "truncated")]
    theirs = [answer("b"), answer("same "), answer("c"), answer("d")]
    pairs = answer_pairs(ours, theirs)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("a", "b"),
        ("same", "same "),
        ("cut", "d"),
    ]
    assert [is_equal(pair) for pair in pairs] == [False, True, False]


def test_equal_answers_are_ties_that_nobody_judges():
    pairs = [Comparison.of(Prompt.of("q"), first, "b") for first in ("a", "b", "c")]

    def judge(some):
        assert [pair.first for pair in some] == ["a", "c"]
        return [
            Preference(id=pair.first, comparison=pair, p_first=1.0, source="ai") for pair in some
        ]

    labels = label_pairs(pairs, judge)
    assert [p.comparison.first for p in labels] == ["a", "b", "c"]
    assert [(p.p_first, p.source) for p in labels] == [
        (1.0, "ai"),
        (0.5, "equal answers"),
        (1.0, "ai"),
    ]


def test_win_rates_of_two_models_in_either_order():
    labels = [
        label(0.9, "1", ("b", "a")),
        label(0.9, "2", ("a", "b")),
        label(0.1, "3", ("b", "a")),
        label(None, "4", ("b", "a")),
        label(0.9, "5", ("a", "a")),
        label(0.9, "6", ("", "a")),
        label(0.5, "7", ("c", "a")),
    ]
    rates = win_rates(outcomes(labels))
    assert list(rates) == [("a", "b"), ("a", "c")]
    assert rates["a", "b"].value == pytest.approx(2 / 3)
    assert rates["a", "c"].value == 0.5
