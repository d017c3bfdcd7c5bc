"""Leave-one-principle-out and conflicts, on labels small enough to count."""

import pytest

from cai.evaluate.influence import Conflict, conflicts, influence
from cai.feedback.judge import combine_judgments
from cai.records import Comparison, Judgment, Preference, Prompt


def label(number, **said):
    judgments = tuple(
        Judgment(principle=name, principle_hash="h", method="m", p_first=p)
        for name, p in said.items()
    )
    p_first = combine_judgments(judgments, [1.0] * len(judgments), "mean")
    comparison = Comparison.of(Prompt.of(f"q{number}"), "a", "b")
    return Preference(
        id=str(number), comparison=comparison, p_first=p_first, source="ai", judgments=judgments
    )


LABELS = [
    label(0, x=0.9, y=0.5),  # x alone decides; without it y leaves a tie
    label(1, x=0.9, y=0.8),  # both agree
    label(2, x=0.9, y=0.2),  # they fight, x wins
    label(3, y=0.9),  # only y: without it there is no label
]


def test_leaving_a_principle_out():
    rows = {row.principle: row for row in influence(LABELS, {}, "mean")}
    x, y = rows["x"], rows["y"]
    assert (x.labels, x.opinion) == (3, 1.0) and (y.labels, y.opinion) == (4, 0.75)
    assert x.decides == pytest.approx(1 / 3) and y.decides == pytest.approx(1 / 4)
    # without x: label 0 becomes a tie; label 2 (0.55, near a tie) is not clear enough to turn
    assert x.flips == pytest.approx(1 / 3) and x.moves == pytest.approx((0.2 + 0.05 + 0.35) / 3)
    assert y.flips == pytest.approx(1 / 4) and y.moves == pytest.approx(
        (0.2 + 0.05 + 0.35 + 1.0) / 4
    )


def test_principles_that_fight():
    fighting = [label(i, x=0.9, y=0.2 if i < 4 else 0.8, z=0.5) for i in range(6)]
    assert conflicts(fighting) == [Conflict("x", "y", 6, pytest.approx(4 / 6))]
    assert conflicts(fighting, min_labels=7) == []
