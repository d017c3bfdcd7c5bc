"""The table of multiple-choice figures of ``cai eval``, below the accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from cai.cli.reporter import safe

BASELINES = {
    "first": "always the first option",
    "random": "at random",
    "longest": "the longest option",
    "shortest": "the shortest option",
    "most_frequent": "the most frequent answer",
}
"""What the baselines do."""


def add_baselines(table: Table, baselines: Mapping[str, float]) -> None:
    """Add a row for each baseline to a table of accuracies.

    Args:
        table: The table.
        baselines: The accuracy of each baseline.
    """
    for name, value in baselines.items():
        table.add_row(f"({BASELINES[name]})", f"{value:.3f}", "", "", "")


def choice_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what else is known of each model: calibration, and what the place of options does.

    Args:
        figures: The figures of each model, by its name.
    """
    read = {name: own for name, own in figures.items() if own["n"]}
    rows = {name: _cells(own) for name, own in read.items()}
    titles = list(dict.fromkeys(title for cells in rows.values() for title in cells))
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(safe(name), *(cells.get(title, "") for title in titles))
    return table


def _cells(figures: Mapping[str, Any]) -> dict[str, str]:
    cells = {"Brier": f"{figures['brier']:.3f}", "ECE": f"{figures['ece']:.3f}"}
    if places := figures.get("places"):
        cells["first place"] = f"{places['first']:.0%} (fair {places['fair']:.0%})"
        if "consistent" in places:
            cells["consistent"] = f"{places['consistent']:.0%}"
            cells["as given"] = f"{places['accuracy_as_given']:.3f}"
        cells["on letters"] = f"{figures['option_mass']['mean']:.0%}"
    for name, subset in figures.get("subsets", {}).items():
        cells[safe(name) or "other"] = f"{subset['value']:.3f}"
    if ties := figures.get("ties"):
        cells["ties"] = f"{ties['score']:.3f}"
    return cells
