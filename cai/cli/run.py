"""``cai run``: the pipeline, its table at the end, and where the report is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from cai import distributed
from cai.backends.budget import Budget
from cai.cli.reporter import TerminalReporter
from cai.config import RunConfig
from cai.constitution import Constitution
from cai.errors import CaiError, InputError, Problem
from cai.evaluate.gold import columns, share_of
from cai.files import read_json

MOVED = 0.05
_RUN_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def run_pipeline(
    path: Path,
    folder: Path | None,
    until: str,
    redo: Sequence[str],
    settings: Sequence[str],
    dry_run: bool,
    budget: Budget,
) -> None:
    """Check everything, then do what is left to do."""
    folder = folder or Path("runs") / path.stem
    if not _RUN_NAME.fullmatch(folder.name):
        raise InputError(
            [
                Problem(
                    str(folder),
                    "the name of a run may hold letters, digits, dots, dashes and underscores",
                )
            ]
        )
    from cai.pipeline.preflight import check_run

    config, constitution, source = check_run(
        path, settings, until, models=not dry_run, online=not dry_run
    )
    print(
        f"constitution {source} ({len(constitution.principles)} principles, {constitution.hash[:8]})",
        flush=True,
    )
    if dry_run:
        from cai.pipeline.estimate import estimate

        print(estimate(config, constitution, path.parent, budget))
        return
    print_run(path, config, constitution, folder, until, redo, budget)


def print_run(
    path: Path,
    config: RunConfig,
    constitution: Constitution,
    folder: Path,
    until: str,
    redo: Sequence[str],
    budget: Budget,
) -> None:
    reporter = TerminalReporter()
    reporter.stage("run", f"{path}, in {folder}")
    from cai.pipeline.execute import (  # torch and transformers load from here on
        execute,
        named_stages,
    )
    from cai.pipeline.run import open_run

    named_stages(config, until, redo)  # before anything is made
    before = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    run = open_run(folder, config, constitution, path.parent, reporter, budget)
    try:
        with run.cache:
            metrics = execute(run, until=until, redo=redo)
    except BaseException:
        report_what_there_is(folder)
        raise
    reporter.console.print(stage_table(metrics))
    if "policies" in metrics:
        reporter.console.print(policy_table(metrics))
    for note in metrics.get("notes", []):
        print(note)
    for line in movement(before, metrics):
        print(line)
    cache = metrics["memo"]
    print(
        f"model calls made now: {cache['calls']:,}; remembered: {cache['hits']:,}; seconds in all: {sum(metrics['seconds'].values()):.0f}"
    )
    from cai.report.page import write_report

    print(f"report: {write_report(folder)}")


def report_what_there_is(folder: Path) -> None:
    """Write the report of a run that is being stopped, as far as any of its stages is finished."""
    from cai.report.page import write_report

    with contextlib.suppress(CaiError, OSError):  # what stopped the run is the error to report
        if distributed.is_main():
            print(f"report: {write_report(folder)}")


def stage_table(metrics: dict[str, Any]) -> Table:
    """What each stage did."""
    table = Table("stage", "did", "calls", "remembered", "seconds", box=None)
    for name, seconds in metrics["seconds"].items():
        stage_metrics = metrics["stages"].get(name, {})
        did = ", ".join(
            f"{key.replace('_', ' ')} {_short(value)}"
            for key, value in stage_metrics.items()
            if isinstance(value, int | float) and value
        )
        counts = metrics["memo"]["by_stage"].get(name, {"calls": 0, "hits": 0})
        table.add_row(name, did, f"{counts['calls']:,}", f"{counts['hits']:,}", f"{seconds:.1f}")
    return table


def policy_table(metrics: dict[str, Any]) -> Table:
    """The policies side by side; a column that no policy has a figure for is not there."""
    policies: dict[str, Any] = metrics["policies"]
    shown: dict[str, list[str]] = {}
    for title, column in columns(policies).items():
        shares = [share_of(stage_metrics, column) for stage_metrics in policies.values()]
        shown[title] = [f"{share['value']:.1%}" if share else "" for share in shares]
    shown["judge: wins"] = [
        f"{stage_metrics['win_rate']['value']:.0%}" if "win_rate" in stage_metrics else ""
        for stage_metrics in policies.values()
    ]
    for title, key, form in (
        ("reward", "reward", ".2f"),
        ("KL from initial", "kl_from_initial", ".1f"),
    ):
        shown[title] = [
            format(stage_metrics[key], form) if key in stage_metrics else ""
            for stage_metrics in policies.values()
        ]
    shown = {title: test_sets for title, test_sets in shown.items() if any(test_sets)}
    table = Table("policy", *shown, box=None, title="held-out prompts")
    for row in zip(policies, *shown.values(), strict=True):
        table.add_row(*row)
    return table


def movement(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """How the policies moved since the last time this run was finished: rates and attributes that changed by 5 points or more."""
    lines = []
    for name, now in after.get("policies", {}).items():
        then = before.get("policies", {}).get(name, {})
        rates = [
            key
            for key in now
            if key.endswith("_rate") and isinstance(now[key], float) and key in then
        ]
        moved = [(key.removesuffix("_rate"), then[key], now[key]) for key in rates]
        for attribute, sets in now.get("attributes", {}).items():
            known = then.get("attributes", {}).get(attribute, {})
            moved += [
                (f"{attribute} ({kind})", known[kind], rate)
                for kind, rate in sets.items()
                if kind in known
            ]
        shown = [
            f"{what} {old:.0%} -> {new:.0%}" for what, old, new in moved if abs(new - old) >= MOVED
        ]
        if shown:
            lines.append(f"{name} moved: {', '.join(shown)}")
    if lines:
        lines.insert(0, f"since the constitution {before['constitution']['hash']}:")
    return lines


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
