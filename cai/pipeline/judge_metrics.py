"""How good the labels of a run are, where the truth is known, and how consistent they are where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai.evaluate.statistics import expected_calibration_error, means, reliability
from cai.feedback.judge_methods import JudgeMethod, score_all
from cai.files import read_records
from cai.models.names import REFERENCE
from cai.pipeline.run import Run
from cai.records import Judgment, Preference

CROSSED_PAIRS = 120


def judge_figures(run: Run) -> dict[str, Any]:
    """``judge``: accuracy against gold and calibration, crossover, ties under irrelevant principles, order consistency.

    What has no data is left out.
    """
    from cai.pipeline.feedback import method_of

    preferences = (
        read_records(run.records("judge"), Preference) if run.records("judge").is_file() else []
    )
    judgments = [judgment for preference in preferences for judgment in preference.judgments]
    metrics: dict[str, Any] = {
        "n": len(preferences),
        "unscored": sum(p.p_first is None for p in preferences),
    }
    metrics |= order_consistency(judgments)
    if run.config.models.initial == REFERENCE:
        metrics |= against_gold(run, preferences) | crossover(run, method_of(run))
    return {"judge": metrics}


def order_consistency(judgments: Sequence[Judgment]) -> dict[str, float]:
    """Share of readings in both orders that name the same answer; nothing for methods that do not ask in both."""
    both = [r.evidence for r in judgments if "p_A_order_2" in r.evidence]
    return means(
        order_consistency=[
            float((e["p_A_order_1"] > 0.5) == (e["p_A_order_2"] < 0.5)) for e in both
        ]
    )


def against_gold(run: Run, preferences: Sequence[Preference]) -> dict[str, Any]:
    """Per reading, whether the judge names the answer that keeps the principle, where just one of the two does."""
    from cai.reference.gold import attributes_of, read

    about = {
        name: attributes_of(principle) for name, principle in run.constitution.principles.items()
    }
    predicted, truth, ties = [], [], []
    for preference in preferences:
        pair = preference.comparison
        found = [read(pair.prompt, text) for text in (pair.first, pair.second)]
        if not all(found):
            continue
        for judgment in preference.judgments:
            broken = [any(flags[f"has_{a}"] for a in about[judgment.principle]) for flags in found]
            if judgment.p_first is None:
                continue
            if broken[0] == broken[1]:
                ties.append(float(0.35 <= judgment.p_first <= 0.65))
            else:
                predicted.append(judgment.p_first)
                truth.append(float(broken[1]))
    right = [float((p > 0.5) == (t > 0.5)) for p, t in zip(predicted, truth, strict=True)]
    metrics: dict[str, Any] = {
        "decidable": len(truth),
        "irrelevant": len(ties),
        **means(accuracy=right, ties_when_irrelevant=ties),
    }
    if bins := reliability(predicted, truth):
        metrics |= {
            "ece": expected_calibration_error(bins),
            "calibration": [bin_._asdict() for bin_ in bins],
        }
    return metrics


def crossover(run: Run, method: JudgeMethod) -> dict[str, Any]:
    """Answer A breaks only principle X, B only Y: asked about X and about Y the verdict must flip. Both right counts."""
    from cai.reference.gold import crossover_pairs

    used = [run.constitution.principles[name] for name in run.constitution.used_for("judge")]
    pairs = crossover_pairs(used, CROSSED_PAIRS, run.config.seed)
    model = run.judge("evaluate")
    judge_tests = [
        (pair.comparison, principle)
        for pair in pairs
        for principle in (pair.about_first, pair.about_second)
    ]
    templates = run.constitution.templates_for(model)
    p_first = [judgment.p_first for judgment in score_all(method, judge_tests, model, templates)]
    # a pair with a verdict that could not be read is not right
    right = [
        a is not None and b is not None and a < 0.5 < b
        for a, b in zip(p_first[::2], p_first[1::2], strict=True)
    ]
    return {**means(crossover=[float(r) for r in right]), "crossover_n": len(right)}
