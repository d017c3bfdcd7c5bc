"""Whether a constitution has the principles that the stages of a run draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cai.config import ParsedConfig, RunConfig
from cai.constitution.schema import Constitution, Use
from cai.errors import Problem
from cai.pipeline.stage import PlannedStage


def missing_principles(
    parsed: ParsedConfig[RunConfig], constitution: Constitution, stages: Sequence[PlannedStage]
) -> Iterator[Problem]:
    """Find stages that draw more principles than the constitution has for them.

    Args:
        parsed: The run file.
        constitution: Its constitution.
        stages: The stages that will be done.

    Yields:
        A problem for each use with too few principles.
    """
    names = {planned.stage.name for planned in stages}
    per_label = (parsed.config and parsed.config.judge.principles) or 1
    needs: dict[Use, int] = {"revise": 1, "judge": per_label}
    for use, needed in needs.items():
        there = len(constitution.used_for(use))
        if use in names and there < needed:
            loc = ("judge", "principles") if there else ("constitution",)
            text = f"{constitution.name} has {there or 'no'} principles to {use} by"
            yield Problem(parsed.document.where(loc), f"{'.'.join(loc)}: {text}")
