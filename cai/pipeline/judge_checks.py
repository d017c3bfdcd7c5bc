"""Checks of a judge that need no examples of the constitution."""

from __future__ import annotations

from collections.abc import Sequence

from cai import shipped
from cai.constitution import load_constitution
from cai.evaluate.gate import MIN_EXAMPLES
from cai.evaluate.judge_tests import JudgeTest, judge_test_metrics, judge_tests, run_judge_tests
from cai.evaluate.repeats import ask_again
from cai.models.names import is_function
from cai.pipeline.feedback import method_of
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Preference

REMEDY = (
    "what may help: another judge (models.judge), another judge.method, or templates of your own; "
    "cai preview shows what the judge reads"
)
"""What to do about a judge that is not fit."""


def test_judge(context: StageContext, tests: Sequence[JudgeTest]) -> Metrics:
    """Run tests on the judge, asked as for the labels.

    Args:
        context: The stage.
        tests: The tests.

    Returns:
        What :func:`cai.evaluate.judge_tests.judge_test_metrics` measures.
    """
    model = context.judge()
    method = method_of(context.config, context.constitution)
    templates = context.constitution.templates_for(model)
    return judge_test_metrics(run_judge_tests(tests, method, model, templates))


def shipped_examples(context: StageContext, own: int) -> Metrics:
    """Test a judge on a shipped constitution where the run's own has too few examples.

    A judge that is a function may be a rule for the run's principles alone, so it is left out.

    Args:
        context: The stage.
        own: Number of examples in the run's constitution.

    Returns:
        The results under ``shipped_examples`` with the name of the constitution, if it was needed.
    """
    if own >= MIN_EXAMPLES or is_function(context.config.judge_model):
        return {}
    is_reference = context.judge().template_set == "reference"
    name = "reference" if is_reference else "harmless"
    constitution = load_constitution(shipped.folder("constitution") / f"{name}.yaml")
    metrics = test_judge(context, list(judge_tests(constitution, context.config.seed)))
    return {"shipped_examples": {"constitution": name, **metrics}}


def asked_again(context: StageContext, preferences: Sequence[Preference]) -> Metrics:
    """Ask about clear verdicts again, where the labels do not show whether they are stable.

    Args:
        context: The stage.
        preferences: The labels.

    Returns:
        What :func:`cai.evaluate.repeats.ask_again` measures under ``asked_again``, if anything.
    """
    model, constitution = context.judge(), context.constitution
    method, templates = method_of(context.config, constitution), constitution.templates_for(model)
    share = ask_again(preferences, constitution.principles, method, model, templates)
    return {"asked_again": share} if share["n"] else {}
