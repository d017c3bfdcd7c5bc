"""Whether a constitution has the principles that the stages of a run draw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cai.config import ParsedConfig, RunConfig
from cai.constitution.schema import Constitution, Use
from cai.errors import InputError, Problem
from cai.pipeline.prompt_sets import own_principles
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


def unknown_principles(
    parsed: ParsedConfig[RunConfig], constitution: Constitution
) -> Iterator[Problem]:
    """Find sets of prompts that name principles which the constitution does not use.

    Args:
        parsed: The run file.
        constitution: Its constitution.

    Yields:
        A problem for each such set.
    """
    sets = parsed.config.prompts.revised if parsed.config else {}
    for name, of_set in sets.items():
        loc = ("prompts", "revised", name, "principles")
        try:
            own_principles(constitution, of_set.principles or ("*",))
        except InputError as error:
            where = parsed.document.where(loc)
            yield from (Problem(where, f"{'.'.join(loc)}: {p.message}") for p in error.problems)
