"""What ``cai run`` would do again after an edit of a run's constitution, and what it costs."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from cai.backends.budget import parse_budget
from cai.constitution import Constitution
from cai.pipeline.estimate import costs
from cai.pipeline.metrics import open_for_reading
from cai.pipeline.prices import price_of
from cai.pipeline.run import base_of
from cai.pipeline.stages import plan_stages
from cai.pipeline.states import stage_states
from cai.studio.library import StudioRun
from cai.studio.query import Filters


class Redone(NamedTuple):
    """A stage that a run would do again.

    Attributes:
        name: Its name.
        reasons: Why.
        reading: Its records that the principle had a part in; None for a stage without records.
        records: All its records.
        requests: Requests that it makes at most, if nothing is remembered.
        tokens_in: Estimated tokens that these read.
        tokens_out: Tokens that these write at most.
        price: What that costs; None if no server has a price.
    """

    name: str
    reasons: tuple[str, ...]
    reading: int | None
    records: int
    requests: int
    tokens_in: int
    tokens_out: int
    price: float | None


def redone(run: StudioRun, constitution: Constitution, principle: str) -> list[Redone]:
    """The stages that a run would do again with another constitution, those that are done.

    Args:
        run: The run.
        constitution: The constitution.
        principle: The id of the principle that is edited.

    Raises:
        InputError: If the prompts of the run cannot be found.
    """
    planned = plan_stages(run.config)
    before = run.states()
    with open_for_reading(run.folder) as opened:
        states = stage_states(dataclasses.replace(opened, constitution=constitution), planned)
    stale = [state for state in states.values() if state.is_stale and before[state.name].manifest]
    if not stale:
        return []
    cost_of = {cost.stage: cost for cost in costs(run.config, constitution, base_of(run.folder))}
    price = price_of(run.config)
    budget = parse_budget("", price)
    counts, reading = run.counts(), run.counts(Filters(principle=principle))
    rows = []
    for state in stale:
        cost = cost_of.get(state.name)
        tokens_in, tokens_out = (cost.tokens_in, cost.tokens_out) if cost else (0, 0)
        rows.append(
            Redone(
                state.name,
                state.reasons,
                reading.get(state.name),
                counts.get(state.name, 0),
                cost.requests if cost else 0,
                tokens_in,
                tokens_out,
                budget.cost(tokens_in, tokens_out) if price else None,
            )
        )
    return rows
