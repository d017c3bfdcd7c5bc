"""Results of ``cai eval``, if they are in the folder of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cai.files import read_object
from cai.report.tables import Cell, Table, percent

RESULTS = "results.json"


class Evaluation(NamedTuple):
    """One evaluation by ``cai eval``.

    Attributes:
        name: The folder that its results are in.
        table: A row for each suite, a column for each model.
        failed: The conditions of ``--fail-if`` that hold.
    """

    name: str
    table: Table
    failed: list[str]


def read_evaluations(folder: Path) -> list[Evaluation]:
    """Read the evaluations whose ``--out`` was a folder in that of a run.

    Args:
        folder: The folder of the run.
    """
    found = {path.parent.name: read_object(path) for path in sorted(folder.glob(f"*/{RESULTS}"))}
    return [
        Evaluation(name, suites_table(results["suites"]), _failed(results.get("conditions", ())))
        for name, results in found.items()
        if results and results.get("suites")
    ]


def suites_table(suites: Mapping[str, Mapping[str, Any]]) -> Table:
    """Compare models on suites: the metric of each with its interval, and what has no grade.

    Args:
        suites: The results of each suite, by its name.
    """
    models = list(dict.fromkeys(model for suite in suites.values() for model in suite["models"]))
    shown = short_names(models)
    rows = [
        [
            Cell(name, f"{suite['metric'].replace('_', ' ')}, {suite['better']} is better"),
            *(_cell(suite["models"].get(model), suite["metric"]) for model in models),
        ]
        for name, suite in suites.items()
    ]
    return Table(["suite", *(shown[model] for model in models)], rows)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out the folders that all names begin with, such as that of a run.

    Args:
        names: The names of models.
    """
    parts = [name.split("/") for name in names]
    while len(parts) > 1 and all(len(p) > 1 and p[0] == parts[0][0] for p in parts):
        parts = [p[1:] for p in parts]
    return dict(zip(names, map("/".join, parts), strict=True))


def _cell(figures: Mapping[str, Any] | None, metric: str) -> Cell:
    """A value with its interval, and how many answers have no grade."""
    if figures is None:
        return Cell()
    details = []
    if figures.get("low") is not None:
        details.append("–".join(_number(figures[end], metric) for end in ("low", "high")))
    missing = sum(figures["without_grade"].values())
    if missing:
        details.append(f"{missing:,} without a grade")
    value = figures.get("value")
    return Cell("" if value is None else _number(value, metric), ", ".join(details))


def _number(value: float, metric: str) -> str:
    return percent(value) if metric.endswith("_rate") else f"{value:.3g}"


def _failed(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{verdict['condition']} ({verdict['suite']}, {verdict['model']})"
        for verdict in conditions
        if verdict["holds"]
    ]
