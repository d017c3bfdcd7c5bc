"""The tables of ``cai eval``: a metric of each model, and by how much models differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from cai.cli.choice_table import add_baselines, choice_table
from cai.cli.pairwise_table import print_pairwise
from cai.cli.reporter import safe
from cai.pipeline.failures import failure_counts
from cai.report.evaluations import short_names


def print_suites(results: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the results of each suite.

    Args:
        results: The results of each suite, by its name.
        console: Where to print; by default standard output.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    for name, suite in results.items():
        console.print(f"\n{safe(name)}: {safe(suite['about'])}", markup=False)
        console.print(f"{suite['metric']}, {suite['better']} is better", markup=False)
        console.print(_table(suite))
        if "pairwise" in suite:
            print_pairwise(suite["pairwise"], console)
        if left_out := suite.get("left_out"):
            reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
            console.print(f"rows left out: {reasons}", markup=False)
        if any(figures["n"] for figures in suite.get("choice", {}).values()):
            console.print()
            console.print(choice_table(suite["choice"]))


def _table(suite: Mapping[str, Any]) -> Table:
    metric = suite["metric"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for title in (metric, "95% interval", "prompts"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("without grade", overflow="fold")
    shown = short_names(list(suite["models"]))
    for name, figures in suite["models"].items():
        table.add_row(safe(shown[name]), *_cells(figures, metric), _without_grade(figures))
    for name, scores in suite.get("log_scores", {}).items():
        for score, figures in scores.items():
            title = safe(f"{shown[name]}, {score} in its log")
            table.add_row(title, *_cells(figures, ""), "")
    for difference in suite["differences"]:
        title = safe(f"{shown[difference['model']]} - {shown[difference['against']]}")
        table.add_row(title, *_cells(difference, metric, sign="+"), "")
    add_baselines(table, suite.get("baselines", {}))
    return table


def _cells(figures: Mapping[str, Any], metric: str, sign: str = "") -> tuple[str, str, str]:
    """A value, its interval and the number of prompts."""
    if figures.get("value") is None:
        return "", "", "0"
    value = _number(figures["value"], metric, sign)
    if figures["low"] is None:
        return value, "", f"{figures['clusters']:,}"
    low, high = (_number(figures[end], metric, sign) for end in ("low", "high"))
    return value, f"{low} to {high}", f"{figures['clusters']:,}"


def _number(value: float, metric: str, sign: str) -> str:
    value = round(value, 12) + 0.0
    return f"{value:{sign}.1%}" if metric.endswith("_rate") else f"{value:{sign}.3f}"


def _without_grade(figures: Mapping[str, Any]) -> str:
    return failure_counts(figures["without_grade"])
