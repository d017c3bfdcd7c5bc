"""What the first page of a run shows: the state of each stage, figures and plots."""

from __future__ import annotations

import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cai.files import read_object
from cai.pipeline.metrics import METRICS
from cai.pipeline.stages import plan_stages
from cai.report.page import headline
from cai.report.tables import number
from cai.studio.library import StudioRun, is_inside, stamp

MAX_LOG = 8 << 20
"""Bytes at the end of a training log that are read."""
MAX_MEASURED = 6
"""Figures of a stage that its row shows."""


class StageRow(NamedTuple):
    """A stage as the overview shows it.

    Attributes:
        name: Its name.
        title: What it does, in a few words.
        status: Its state.
        reasons: Why it is out of date, or what failed.
        measured: What it measured, with titles; while it trains, what its log says.
        seconds: How long it took; None if it is not finished.
        usage: The requests, tokens read and tokens written so far.
        step: The last step of its training and their number, if it trains now.
        records: The number of its records; None for a stage that writes none.
        indexed: The share of them that can be found by now.
        unusable: The number of records by status, without those that can be used.
    """

    name: str
    title: str
    status: str
    reasons: tuple[str, ...]
    measured: list[tuple[str, str]]
    seconds: float | None
    usage: tuple[int, int, int]
    step: tuple[int, int] | None
    records: int | None
    indexed: float
    unusable: dict[str, int]


def stage_rows(run: StudioRun) -> list[StageRow]:
    """Describe the stages of a run as they are now.

    Args:
        run: The run.
    """
    states, usage, stages = run.states(), run.usage(), run.stages()
    is_working, counts = run.is_working(), run.counts()
    rows = []
    for planned in plan_stages(run.config):
        state = states.get(planned.name)
        status: str = state.status if state else "to do"
        if status == "interrupted" and is_working:
            status = "in progress"
        manifest = state.manifest if state else None
        log = {} if manifest else _last_row(run.folder, planned.name)
        done, size = stages[planned.name].progress() if planned.name in stages else (0, 0)
        row = StageRow(
            planned.name,
            planned.stage.title,
            status,
            state.reasons if state else (),
            _measured(manifest.metrics if manifest else log),
            manifest.seconds if manifest else None,
            usage.get(planned.name, (0, 0, 0)),
            _step(log),
            counts.get(planned.name, 0) if planned.name in stages else None,
            done / size if size else 1.0,
            run.unusable(planned.name) if planned.name in stages else {},
        )
        rows.append(row)
    return rows


def figures(run: StudioRun) -> dict[str, Any]:
    """The headline rates of a run, and its plots: the name of each, and what changes when it does.

    Args:
        run: The run.
    """
    metrics = metrics_of(run)
    policies = metrics.get("policies")
    rates = headline(policies) if isinstance(policies, dict) else []
    plots = {"rates": stamp(run.folder / METRICS)} if rates else {}
    for stage in plan_stages(run.config):
        if stage.stage.name == "ppo" and _log(run.folder, stage.name):
            plots[stage.name] = stamp(run.folder / stage.name / "log.jsonl")
    versions = {name: "-".join(map(str, values or ())) for name, values in plots.items()}
    return {"rates": rates, "plots": versions}


def plot(run: StudioRun, name: str) -> str:
    """Draw a plot of the report, as SVG.

    Args:
        run: The run.
        name: ``rates``, or a stage that optimizes by PPO.

    Returns:
        An empty text if there is nothing to draw, or no such plot.
    """
    if name == "rates":
        policies = metrics_of(run).get("policies")
        return _draw("rates", json.dumps(policies)) if isinstance(policies, dict) else ""
    if name in [stage.name for stage in plan_stages(run.config) if stage.stage.name == "ppo"]:
        return _draw("training", json.dumps(_log(run.folder, name)))
    return ""


@lru_cache(maxsize=16)
def _draw(kind: str, values: str) -> str:
    from cai.report import plots  # matplotlib is slow to import

    draw = plots.rates if kind == "rates" else plots.training
    return str(draw(json.loads(values)))


def metrics_of(run: StudioRun) -> dict[str, Any]:
    """What the run measured, as ``metrics.json`` has it; empty if there is none yet."""
    path = run.folder / METRICS
    return (read_object(path) or {}) if is_inside(path, run.folder) else {}


def _measured(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [
        (name.replace("_", " "), number(value))
        for name, value in metrics.items()
        if is_number(value) and value
    ]
    return shown[:MAX_MEASURED]


def is_number(value: object) -> bool:
    """Whether a value of a log or of metrics is a number that can be shown."""
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)  # type: ignore[arg-type]


def _step(row: dict[str, Any]) -> tuple[int, int] | None:
    """The step of a training and their number, of which an update of PPO has some of its own."""
    step, steps = row.get("update", row.get("step")), row.get("num_updates", row.get("steps"))
    is_known = is_number(step) and is_number(steps)
    return (int(step), int(steps)) if is_known else None  # type: ignore[arg-type]


def _last_row(folder: Path, stage: str) -> dict[str, Any]:
    rows = log_rows(folder, stage, limit=64 << 10)
    return rows[-1] if rows else {}


def _log(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The updates of PPO that its plot shows."""
    path = folder / stage / "log.jsonl"
    return [dict(row) for row in _updates(folder, stage, stamp(path))]


@lru_cache(maxsize=16)
def _updates(folder: Path, stage: str, _stamp: object) -> tuple[dict[str, Any], ...]:
    rows = log_rows(folder, stage)
    names = ("update", "score", "kl")
    shown = [{name: row[name] for name in names if is_number(row.get(name))} for row in rows]
    return tuple(row for row in shown if "update" in row and "kl" in row)


def log_rows(
    folder: Path, stage: str, name: str = "log.jsonl", limit: int = MAX_LOG
) -> list[dict[str, Any]]:
    """Read the rows at the end of a training's log; damaged ones, such as half a row, are left out.

    Args:
        folder: The folder of the run.
        stage: The stage.
        name: The file.
        limit: Bytes that are read.
    """
    path = folder / stage / name
    if not is_inside(path, folder):
        return []
    rows = []
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        for line in file.read(limit).splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows
