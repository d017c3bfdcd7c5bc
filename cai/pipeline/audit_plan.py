"""What the audit asks the judge: no more than the labels that it checks."""

from __future__ import annotations

from typing import NamedTuple

from cai import shipped
from cai.config import RunConfig
from cai.constitution import load_constitution
from cai.constitution.schema import Constitution
from cai.evaluate.audit_budget import affordable_tests
from cai.evaluate.gate import MIN_EXAMPLES
from cai.evaluate.judge_tests import JudgeTest, adversarial_tests, judge_tests
from cai.evaluate.repeats import ASKED_AGAIN
from cai.models.names import is_function
from cai.templates import TemplateSet

REPEATED = 4
"""Of this many judgments at least, one is asked again."""


class AuditPlan(NamedTuple):
    """What the judge is asked, beside the comparisons with labels by people.

    Attributes:
        tests: Tests on the constitution's own examples.
        left_out: Number of such tests that would have cost more than the labels.
        shipped: Name of a shipped constitution, if the run's own has too few examples.
        shipped_tests: Tests on its examples.
        repeats: Number of verdicts at most that are asked for again.
    """

    tests: list[JudgeTest]
    left_out: int
    shipped: str
    shipped_tests: list[JudgeTest]
    repeats: int


def plan_audit(
    config: RunConfig, constitution: Constitution, judgments: int, template_sets: set[TemplateSet]
) -> AuditPlan:
    """Decide what each judge is asked: together no more than it gave judgments.

    Args:
        config: The settings.
        constitution: The constitution.
        judgments: Number of judgments behind the labels, of each judge.
        template_sets: The sets of templates that the judges read.
    """
    seed = config.seed
    repeats = min(ASKED_AGAIN, judgments // REPEATED) if config.judge.method == "critique" else 0
    if not config.audit.examples:
        return AuditPlan([], 0, "", [], repeats)
    all_tests = judge_tests_of(constitution, seed)
    tests = affordable_tests(all_tests, judgments - repeats, seed)
    own = sum(test.kind == "plain" for test in all_tests)
    name, shipped_tests = "", list[JudgeTest]()
    # a judge that is a function may be a rule for the run's principles alone
    if own < MIN_EXAMPLES and not any(map(is_function, config.judge_models)):
        name = "reference" if template_sets == {"reference"} else "harmless"
        others = load_constitution(shipped.folder("constitution") / f"{name}.yaml")
        rest = judgments - repeats - len(tests)
        shipped_tests = affordable_tests(list(judge_tests(others, seed)), rest, seed)
    return AuditPlan(tests, len(all_tests) - len(tests), name, shipped_tests, repeats)


def judge_tests_of(constitution: Constitution, seed: int) -> list[JudgeTest]:
    """The tests that the examples of a constitution make, adversarial ones included.

    Args:
        constitution: The constitution.
        seed: Seed of the order of the answers.
    """
    return [*judge_tests(constitution, seed), *adversarial_tests(constitution, seed)]
