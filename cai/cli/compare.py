"""``cai compare``: what is different between two runs, and in how their policies behave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cai.cli.diff import print_constitution_changes
from cai.cli.reporter import safe
from cai.evaluate.behavior import Difference, Overlap
from cai.evaluate.intervals import Estimate
from cai.files import finite
from cai.pipeline.run_comparison import RunComparison, compare_runs


def compare(
    one: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    other: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another run.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what is different between two runs.

    Constitution, settings, and behavior: every metric of the policies on held-out prompts with its
    95 % interval, and the difference, paired by prompt; how often revisions of the same drafts and
    labels of the same comparisons come out differently. No model is asked.

    Example: cai compare runs/quickstart runs/edited
    """
    found = compare_runs(one, other)
    if as_json:
        print(json.dumps(finite(found.as_json()), indent=2, ensure_ascii=False))
        return
    print_constitution_changes(found.principles, found.examples, found.templates)
    for change in found.settings:
        print(f"{'setting':<9}{safe(change)}")
    _print_behavior(found, Console(highlight=False, soft_wrap=True))


def _print_behavior(found: RunComparison, console: Console) -> None:
    if found.policies or found.wins:
        console.print("\nheld-out prompts, 95 % intervals; B - A by prompt, * without 0:")
        console.print(_table([*found.policies, *found.wins]))
    if found.numbers:
        table = _empty_table("policy", "mean", right=("A", "B"))
        for policy, name, *values in found.numbers:
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            table.add_row(safe(policy), name.replace("_", " "), *cells)
        console.print()
        console.print(table)
    for overlap in found.overlaps:
        console.print(f"\n{_sentence(overlap)}", markup=False)
    for note in found.notes:
        console.print(f"\nnote: {safe(note)}", markup=False)


def _empty_table(*left: str, right: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    for title in left:
        table.add_column(title, overflow="fold")
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _table(rows: Sequence[Difference]) -> Table:
    table = _empty_table("policy", "metric", right=("A", "B", "B - A"))
    last = ""
    for row in rows:
        values = [_cell(value, is_share=row.is_share) for value in (row.one, row.other)]
        difference = _cell(row.difference, "+", is_share=row.is_share)
        policy, last = "" if row.policy == last else row.policy, row.policy
        mark = "*" if row.is_clear else " "
        table.add_row(safe(policy), safe(row.title), *values, difference + mark)
    return table


def _cell(estimate: Estimate | None, sign: str = "", *, is_share: bool) -> str:
    """A value with its interval; shares in percent."""
    if estimate is None:
        return ""
    factor = 100 if is_share else 1
    value, low, high = (
        None if number is None else round(factor * number, 9) + 0.0
        for number in (estimate.value, estimate.low, estimate.high)
    )
    to = " to " if sign else "–"
    interval = "" if low is None else f" ({low:{sign}.0f}{to}{high:{sign}.0f})"
    return f"{value:{sign}.1f}{'%' if is_share else ''}{interval}"


def _sentence(overlap: Overlap) -> str:
    counts = f"{overlap.what}: {overlap.one:,} in A, {overlap.other:,} in B"
    if overlap.changed is None:
        return f"{counts}, none of them of the same"
    of, differ = ("drafts", "differ") if overlap.what == "revisions" else ("comparisons", "flip")
    share = _cell(overlap.changed, is_share=True)
    return f"{counts}; of {overlap.changed.n:,} same {of} {share} {differ}"
