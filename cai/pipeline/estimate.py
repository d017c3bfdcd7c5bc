"""``--dry-run``: the requests and tokens that a run costs at most, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cai.backends.budget import Budget
from cai.config import RunConfig
from cai.constitution.schema import Constitution
from cai.pipeline.dry_run import DryRun
from cai.pipeline.prompts import read_prompt_sets
from cai.pipeline.stages import plan_stages


class Cost(NamedTuple):
    """What a stage costs, if no response is cached.

    Attributes:
        stage: Its name, such as ``judge-2``.
        requests: Number of requests, at most.
        tokens_in: Estimated prompt tokens of all requests.
        tokens_out: Tokens of all responses, at most.
    """

    stage: str
    requests: int
    tokens_in: int
    tokens_out: int


def costs(config: RunConfig, constitution: Constitution, base: Path) -> list[Cost]:
    """The cost of each stage that asks a model, as the stages themselves count it.

    Args:
        config: The settings of the run.
        constitution: The constitution.
        base: The folder of the run file.
    """
    dry_run = DryRun(config, constitution, read_prompt_sets(config, base).prompts)
    rows: list[Cost] = []
    for planned in plan_stages(config):
        if planned.stage.requests is None:
            continue
        counts = planned.stage.requests(dry_run)
        requests = sum(count.requests for count in counts)
        if requests:
            tokens_in = round(sum(count.requests * count.tokens_in for count in counts))
            tokens_out = sum(count.requests * count.max_tokens for count in counts)
            rows.append(Cost(planned.name, requests, tokens_in, tokens_out))
    return rows


def estimate(
    config: RunConfig, constitution: Constitution, base: Path, budget: Budget | None = None
) -> str:
    """A table of what each stage would ask of models if no response were cached.

    Args:
        config: The settings of the run.
        constitution: The constitution.
        base: The folder of the run file.
        budget: Prices of tokens; without them no prices are shown.
    """
    rows = costs(config, constitution, base)
    total = Cost(
        "all",
        sum(row.requests for row in rows),
        sum(row.tokens_in for row in rows),
        sum(row.tokens_out for row in rows),
    )
    has_prices = budget is not None and bool(budget.price_in or budget.price_out)
    header = f"{'stage':<10}{'requests':>10}{'tokens read':>14}{'tokens written':>18}"
    lines = [header + (f"{'price':>12}" if has_prices else "")]
    for row in (*rows, total):
        written = f"<= {row.tokens_out:,}"
        line = f"{row.stage:<10}{row.requests:>10,}{row.tokens_in:>14,}{written:>18}"
        if budget is not None and has_prices:
            price = f"<= {budget.cost(row.tokens_in, row.tokens_out):,.2f}"
            line += f"{price:>12}"
        lines.append(line)
    lines.append(
        "Tokens are estimated from the length of texts; "
        "cached responses of an earlier run are not deducted."
    )
    return "\n".join(lines)
