"""Agreement of several judges: against published examples, and from records."""

import pytest

from cai.evaluate.agreement import agreement, matched
from cai.evaluate.audit import audit
from cai.evaluate.gate import gate_failures
from cai.evaluate.judge_agreement import (
    agreement_lines,
    judge_agreement,
    krippendorff_alpha,
    pair_agreement,
)
from cai.evaluate.judge_tests import judge_test_metrics
from cai.records import Comparison, Judgment, Preference, Prompt


def units(*columns):
    rows = zip(*columns, strict=True)
    return [{str(i): v for i, v in enumerate(row) if v is not None} for row in rows]


def test_krippendorffs_own_example():
    # Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, B
    one = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    other = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert krippendorff_alpha(units(one, other)) == pytest.approx(0.095, abs=5e-4)


def test_alpha_with_missing_verdicts_and_at_its_ends():
    assert krippendorff_alpha(units([1, 0, 1], [1, 0, None], [1, 0, 1])) == 1.0
    assert krippendorff_alpha(units([1, 0], [0, 1])) == pytest.approx(-0.5)
    assert krippendorff_alpha(units([1, 1], [1, 1])) is None
    assert krippendorff_alpha(units([1, 0], [None, None])) is None
    assert krippendorff_alpha([]) is None


def test_kappa_of_a_published_table():
    # 50 grant proposals: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no
    one, other = [1] * 25 + [0] * 25, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    measured = pair_agreement(units(one, other), "0", "1")
    assert measured["agreement"]["value"] == pytest.approx(0.7)
    assert measured["kappa"] == pytest.approx(0.4)


def test_an_undecided_verdict_is_half_of_a_disagreement():
    measured = pair_agreement(units([1, 0, 0.5], [1, 0, 1]), "0", "1")
    assert measured["agreement"]["value"] == pytest.approx(2.5 / 3)
    assert "kappa" not in pair_agreement(units([1, 1], [1, 1]), "0", "1")
    assert pair_agreement([], "0", "1") == {"agreement": {"n": 0}}


def label(number, *said, p_first=0.9):
    pair = Comparison.of(Prompt.of(f"Question {number}?"), f"yes {number}", "no")
    judgments = tuple(
        Judgment(
            principle="x",
            principle_hash="",
            method="m",
            p_first=p,
            status="unscored" if p is None else "ok",
            judge=f"j{i}",
            option_mass=(0.1 * (i + 1),) * 2,
            tokens=(10, 1),
        )
        for i, p in enumerate(said)
    )
    return Preference(
        id=str(number), comparison=pair, p_first=p_first, source="ai", judgments=judgments
    )


def test_agreement_from_records_by_the_names_of_the_judges():
    labels = [label(0, 0.9, 0.8, 0.2), label(1, 0.9, None, 0.1), label(2, 0.1, 0.3, 0.1)]
    measured = judge_agreement(labels, {"j0": "big", "j1": "small"})
    assert list(measured["by_judge"]) == ["big", "small", "j2"]
    small = measured["by_judge"]["small"]
    assert (small["n"], small["unscored"]["value"], small["tokens"]) == (
        3,
        pytest.approx(1 / 3),
        [30, 3],
    )
    assert small["agrees"]["value"] == 0.5 and small["option_mass"]["median"] == 0.2
    assert [pair["judges"] for pair in measured["pairs"]] == [
        ["big", "small"],
        ["big", "j2"],
        ["small", "j2"],
    ]
    assert [pair["agreement"]["n"] for pair in measured["pairs"]] == [2, 3, 2]
    lines = agreement_lines(measured)
    assert lines[0].startswith("3 judges: Krippendorff's alpha ")
    assert lines[1] == "big and small agree on 100% of 2 verdicts, kappa 1.00"


def test_labels_of_one_judge_have_no_agreement():
    assert judge_agreement([label(0, 0.9), label(1, 0.2)]) == {}
    assert judge_agreement([]) == {} and agreement_lines({}) == []


def test_the_gate_names_the_judge_that_answers_something_else():
    labels = [label(i, 0.9, 0.8) for i in range(40)]
    metrics = audit(labels) | {"judges": judge_agreement(labels, {"j0": "odd"})}
    limits = {
        "min_option_mass": 0.15,
        "max_unscored": 1,
        "max_near_ties": 1,
        "max_position_bias": 1,
        "max_longer_wins": 1,
        "min_order_consistency": 0,
        "min_examples_accuracy": 0,
        "min_crossed_accuracy": 0,
        "max_adversarial_flips": 1,
    }
    (failure,) = gate_failures(metrics, judge_test_metrics([]), limits)
    assert failure.startswith("odd: the judge puts 10% of its probability on the options")


def test_agreement_with_people_by_principle_is_that_of_all_judges():
    judged = [label(i, 0.9, 0.8, 0.2) for i in range(3)]
    people = [p.model_copy(update={"p_first": 1.0, "judgments": ()}) for p in judged]
    principles = agreement(matched(judged, people))["principles"]
    assert principles == {"x": {"n": 3, "agrees": 1.0}}
