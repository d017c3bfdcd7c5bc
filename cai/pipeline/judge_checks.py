"""Checks of a judge that need no examples of the constitution."""

from __future__ import annotations

from collections.abc import Sequence

from cai.evaluate.judge_tests import JudgeTest, judge_test_metrics, run_judge_tests
from cai.evaluate.repeats import ask_again
from cai.pipeline.audit_plan import AuditPlan
from cai.pipeline.feedback import method_of
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Preference


def test_judge(context: StageContext, tests: Sequence[JudgeTest]) -> Metrics:
    """Run tests on the judge, asked as for the labels.

    Args:
        context: The stage.
        tests: The tests.

    Returns:
        What :func:`cai.evaluate.judge_tests.judge_test_metrics` measures.
    """
    model = context.judge()
    method = method_of(context.config.judge, context.constitution, context.config.seed)
    templates = context.constitution.templates_for(model)
    return judge_test_metrics(run_judge_tests(tests, method, model, templates))


def shipped_examples(context: StageContext, plan: AuditPlan) -> Metrics:
    """Test a judge on a shipped constitution where the run's own has too few examples.

    Args:
        context: The stage.
        plan: What the judge is asked.

    Returns:
        The results under ``shipped_examples`` with the name of the constitution, if it was needed.
    """
    if not plan.shipped_tests:
        return {}
    metrics = test_judge(context, plan.shipped_tests)
    return {"shipped_examples": {"constitution": plan.shipped, **metrics}}


def asked_again(context: StageContext, preferences: Sequence[Preference], limit: int) -> Metrics:
    """Ask about clear verdicts again, where the labels do not show whether they are stable.

    Args:
        context: The stage.
        preferences: The labels.
        limit: Number of verdicts at most.

    Returns:
        What :func:`cai.evaluate.repeats.ask_again` measures under ``asked_again``, if anything.
    """
    model, constitution = context.judge(), context.constitution
    method = method_of(context.config.judge, constitution, context.config.seed)
    templates = constitution.templates_for(model)
    share = ask_again(preferences, constitution.principles, method, model, templates, limit)
    return {"asked_again": share} if share["n"] else {}
