"""The report on judges as tables, and as a page in Markdown that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cai.report.markdown import markdown_environment
from cai.report.tables import Cell, Table, percent


class JudgeTable(NamedTuple):
    """A table with a row for each judge.

    Attributes:
        title: Its title.
        about: What the columns mean.
        table: The rows.
    """

    title: str
    about: str
    table: Table


FORMS: dict[str, Callable[[Any], str]] = {
    "percent": percent,
    "number": lambda value: f"{value:.2f}",
    "signed": lambda value: f"{value:+.2f}",
    "points": lambda value: f"{100 * value:+.0f}",
    "count": lambda value: f"{value:,}",
    "amount": lambda value: f"{value:,.2f}",
}
"""How a measure is shown."""


def judge_tables(report: Mapping[str, Any]) -> list[JudgeTable]:
    """Make the tables of a report, without columns and tables that nothing is known for.

    Args:
        report: The report, from :func:`cai.pipeline.judge_report.report`.
    """
    made = []
    for group in _groups():
        measures = group["measures"]
        rows = [
            [Cell(name), *(_cell(metrics, path, form) for _, path, form in measures)]
            for name, metrics in (*report["judges"].items(), *report["baselines"].items())
        ]
        header = ["", *(title for title, _, _ in measures)]
        used = [row for row in rows if any(cell.text for cell in row[1:])]
        table = Table(header, used).without_empty_columns()
        # the first column has no title, and is not empty
        if len(table.header) > 1:
            made.append(JudgeTable(group["title"], " ".join(group["about"].split()), table))
    return made


def subset_tables(report: Mapping[str, Any]) -> list[JudgeTable]:
    """Make a table of the accuracy on each kind of pair, for each column that names kinds.

    Args:
        report: The report.
    """
    judges: Mapping[str, Any] = report["judges"]
    found: dict[str, dict[str, None]] = {}
    for metrics in judges.values():
        for column, kinds in metrics.get("by_subset", {}).items():
            found.setdefault(column, {}).update(dict.fromkeys(kinds))
    made = []
    for column, kinds in found.items():
        rows = [[Cell(kind), *_of_kind(judges, column, kind)] for kind in kinds]
        header = [column, "pairs", *judges, "always first", "longer wins"]
        made.append(JudgeTable(f"Accuracy by {column}", "", Table(header, rows)))
    return made


def principle_tables(report: Mapping[str, Any]) -> list[JudgeTable]:
    """Make the table of the accuracy by each principle, if judges were asked about any.

    Args:
        report: The report.
    """
    judges: Mapping[str, Any] = report["judges"]
    names = sorted({n for metrics in judges.values() for n in metrics.get("by_principle", {})})
    rows = [
        [
            Cell(name),
            *(_cell(m.get("by_principle", {}).get(name), "", "percent") for m in judges.values()),
        ]
        for name in names
    ]
    table = Table(["principle", *judges], rows)
    return [JudgeTable("Accuracy by principle", "", table)] if rows else []


def agreement_lines(report: Mapping[str, Any]) -> list[str]:
    """Say how far people agree with each other, and judges with each other.

    Args:
        report: The report.
    """
    lines = []
    people = report["people"]
    if people["n"]:
        lines.append(
            f"two annotators agree on {_shown(people['agreement'], 'percent')} of the pairs, "
            f"kappa {_shown(people['kappa'], 'number')}"
        )
    for pair in report["between_judges"]:
        if not pair["n"]:
            continue
        line = (
            f"{pair['first']} and {pair['second']} agree on {_shown(pair['agreement'], 'percent')} "
            f"of the pairs, kappa {_shown(pair['kappa'], 'number')}"
        )
        if difference := pair.get("accuracy_difference"):
            line += f"; the first is more accurate by {_shown(difference, 'points')} points"
        lines.append(line)
    return lines


def judge_page(report: Mapping[str, Any], files: list[str]) -> str:
    """Write the page of a report.

    Args:
        report: The report.
        files: Names of the files with the pairs.

    Returns:
        Markdown.
    """
    return (
        markdown_environment()
        .get_template("judge_report.md.jinja")
        .render(
            report=report,
            files=files,
            tables=[*judge_tables(report), *subset_tables(report), *principle_tables(report)],
            agreement=agreement_lines(report),
        )
    )


@cache
def _groups() -> list[dict[str, Any]]:
    text = Path(__file__).with_name("judge_report.yaml").read_text(encoding="utf-8")
    groups: list[dict[str, Any]] = yaml.safe_load(text)
    return groups


def _of_kind(judges: Mapping[str, Any], column: str, kind: str) -> list[Cell]:
    found = [m.get("by_subset", {}).get(column, {}).get(kind) for m in judges.values()]
    known = next(filter(None, found))
    cells = [_cell(one["accuracy"], "", "percent") if one else Cell() for one in found]
    others = [Cell(percent(known[name])) for name in ("first", "longer")]
    return [Cell(f"{max(one['accuracy']['n'] for one in found if one):,}"), *cells, *others]


def _cell(metrics: Any, path: str, form: str) -> Cell:
    """A measure with its interval; an empty cell if it was not measured."""
    for key in filter(None, path.split(".")):
        metrics = metrics.get(key) if isinstance(metrics, Mapping) else None
    if metrics is None:
        return Cell()
    if not isinstance(metrics, Mapping):
        return Cell(FORMS[form](metrics))
    value = metrics.get("value", metrics.get("median"))
    if value is None:
        return Cell()
    show = FORMS[form]
    low, high = metrics.get("low"), metrics.get("high")
    if low is None or high is None:
        return Cell(show(value))
    if form == "percent":
        return Cell(show(value), f"{show(low).removesuffix('%')}–{show(high)}")
    return Cell(show(value), f"{show(low)} to {show(high)}")


def _shown(estimate: Mapping[str, Any], form: str) -> str:
    cell = _cell(estimate, "", form)
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text or "not defined"
