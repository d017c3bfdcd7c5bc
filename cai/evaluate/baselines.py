"""Judges that do not judge: the first answer wins, the longer one wins, or a coin decides.

They go through the same measures as a judge, so that each figure of a judge has its baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cai.evaluate.agreement import longer
from cai.evaluate.judge_tests import JudgeTest, JudgeTestResult
from cai.records import Comparison, Judgment, Preference

Rule = Callable[[Comparison], float]
"""From a comparison to the probability of its first answer."""
RULES: dict[str, Rule] = {"always first": lambda _: 1.0, "longer wins": longer}
"""Judges that only look at place or length, by name."""
COIN = "random"
TOSSED: dict[str, Any] = {
    "unread": {"value": 0.0},
    "accuracy": {"value": 0.5},
    "clear_accuracy": {"value": 0.5},
    "kappa": {"value": 0.0},
    "orders": {
        "consistency": {"value": 0.5},
        "same_place": {"value": 0.5},
        "first_place": {"value": 0.5},
    },
    "ties": {"value": 0.0},
    "length": {"longer_wins": {"value": 0.5}, "slopes": {"judge": {"value": 0.0}}},
    "tests": {
        "plain": {"value": 0.5},
        "crossed": {"value": 0.25},
        "irrelevant": {"value": 0.0},
        "adversarial_flips": {"value": 0.5},
    },
}
"""What a coin is expected to get, tossed for each question."""


def label_by(rule: Rule, comparison: Comparison) -> Preference:
    """Label a comparison by a rule, which is also asked about the other order of the answers.

    Args:
        rule: The rule.
        comparison: The comparison.
    """
    p_first = rule(comparison)
    judgment = Judgment(
        principle="",
        principle_hash="",
        method="rule",
        p_first=p_first,
        evidence={"p_A_order_1": p_first, "p_A_order_2": rule(comparison.swap())},
    )
    return Preference(
        id=comparison.id,
        comparison=comparison,
        p_first=p_first,
        source="rule",
        judgments=(judgment,),
    )


def results_by(rule: Rule, tests: Sequence[JudgeTest]) -> list[JudgeTestResult]:
    """Let a rule take the tests of a judge.

    Args:
        rule: The rule.
        tests: The tests.
    """
    return [JudgeTestResult(test, rule(test.comparison)) for test in tests]
