"""The fits find the curves that made the points, and the point where score and gold part."""

import math
import random

import pytest

from cai.evaluate.overoptimization import FORMS, detect_overoptimization, fit


@pytest.mark.parametrize("form", FORMS)
def test_a_fit_finds_the_curve_behind_noisy_points(form):
    rng, a, b = random.Random(0), 1.3, 0.4
    distances = [0.2 * i for i in range(1, 25)]
    points = [
        (0.0, 0.0),
        *((d, a * d - b * FORMS[form](d) + rng.gauss(0, 0.02)) for d in distances),
    ]
    found = fit(points, form)
    assert (
        found.a == pytest.approx(a, abs=0.02)
        and found.b == pytest.approx(b, abs=0.02)
        and found.r2 > 0.97
    )
    grid = max((i / 1000 for i in range(1, 20_000)), key=lambda d: a * d - b * FORMS[form](d))
    assert found.peak == pytest.approx(grid, rel=0.1)
    other = fit(points, next(name for name in FORMS if name != form))
    assert other.r2 < found.r2


def test_a_curve_that_only_rises_has_no_peak():
    assert fit([(d, d) for d in (0.5, 1.0, 2.0, 3.0)], "d (a - b d)").peak is None


def test_points_that_determine_no_curve_have_no_fit():
    for form in FORMS:
        assert fit([(1.0, 1.0)], form) is None and fit([], form) is None
        assert fit([(0.5, 0.0), (1.0, 0.0), (2.0, 0.0)], form) is None
    assert detect_overoptimization(eval_points([0.5] * 6, [0, 1, 2, 3, 4, 5]))["fits"] == []


def eval_points(gold, score):
    return [
        {"update": 4 * i, "eval_kl": i / 2, "eval_gold": g, "eval_score": s}
        for i, (g, s) in enumerate(zip(gold, score, strict=True))
    ]


def test_score_up_and_gold_down_is_said():
    gold = [0.2, 0.5, 0.7, 0.8, 0.6, 0.3]
    found = detect_overoptimization(eval_points(gold, [0, 1, 2, 3, 4, 5]))
    assert found["overoptimized"] and found["best_update"] == 12 and found["fits"][0]["r2"] > 0.4
    assert not detect_overoptimization(eval_points(gold, [0, 1, 2, 3, 2, 1]))["overoptimized"], (
        "both fell"
    )
    assert not detect_overoptimization(eval_points(sorted(gold), [0, 1, 2, 3, 4, 5]))[
        "overoptimized"
    ]
    assert detect_overoptimization(eval_points(gold[:3], [0, 1, 2])) == {} and math.isfinite(
        found["fits"][1]["a"]
    )


def test_a_look_without_a_score_is_no_point():
    rows = eval_points([0.2, 0.5, 0.7, 0.8, 0.6, 0.3], [0, 1, 2, 3, 4, 5])
    assert detect_overoptimization(
        [*rows, {"update": 24, "eval_kl": 9.0, "eval_gold": 0.9}]
    ) == detect_overoptimization(rows)
