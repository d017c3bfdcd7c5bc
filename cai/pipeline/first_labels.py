"""A look at the first labels, before a judge that answers something else is asked for them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cai.errors import RunFailed
from cai.evaluate.audit import option_mass
from cai.evaluate.gate import mass_failures
from cai.feedback.panel import by_judge
from cai.pipeline.stage import StageContext
from cai.records import Preference

FIRST_LABELS = 24
"""Comparisons that are labeled first. Their responses are in the cache, so none is paid twice."""
JUDGE_REMEDY = (
    "what may help: another judge (models.judge), another judge.method (sampled_votes for a model "
    "that reasons first, with models.enable_thinking), or templates of your own; cai preview shows "
    "what the judge reads"
)
"""What to do about a judge that is not fit."""


def check_first_labels(
    context: StageContext, preferences: Sequence[Preference], judges: Mapping[str, str]
) -> None:
    """Stop the judge stage if a judge hardly ever answers with one of the options.

    Args:
        context: The stage.
        preferences: The first labels.
        judges: The names of the judges to check, by fingerprint.

    Raises:
        RunFailed: If ``audit.min_option_mass`` is broken and the gate of the audit is on.
    """
    settings = context.config.audit
    by_fingerprint = by_judge(j for preference in preferences for j in preference.judgments)
    failures = [
        f"{_named(context, name)}{failure}"
        for judge, name in judges.items()
        for failure in mass_failures(
            option_mass(by_fingerprint.get(judge, [])), settings.model_dump()
        )
    ]
    if failures and settings.gate:
        raise RunFailed(
            f"the first {len(preferences)} labels are not fit to train on: {'; '.join(failures)}\n"
            f"{JUDGE_REMEDY}; to continue anyway: --set audit.gate=false"
        )


def _named(context: StageContext, name: str) -> str:
    """The name in front of what one of several judges does."""
    return f"{name}: " if len(context.config.judge_models) > 1 else ""
