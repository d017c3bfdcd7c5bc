"""A look at the first labels, before a judge that answers something else is asked for them all."""

from __future__ import annotations

from collections.abc import Sequence

from cai.errors import RunFailed
from cai.evaluate.audit import option_mass
from cai.evaluate.gate import mass_failures
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


def check_first_labels(context: StageContext, preferences: Sequence[Preference]) -> None:
    """Stop the judge stage if the judge hardly ever answers with one of the options.

    Args:
        context: The stage.
        preferences: The first labels.

    Raises:
        RunFailed: If ``audit.min_option_mass`` is broken and the gate of the audit is on.
    """
    settings = context.config.audit
    judgments = [judgment for preference in preferences for judgment in preference.judgments]
    failures = mass_failures(option_mass(judgments), settings.model_dump())
    if failures and settings.gate:
        raise RunFailed(
            f"the first {len(preferences)} labels are not fit to train on: {failures[0]}\n"
            f"{JUDGE_REMEDY}; to continue anyway: --set audit.gate=false"
        )
