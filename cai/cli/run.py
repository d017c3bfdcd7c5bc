"""``cai run``: the pipeline, its table at the end, and where the report is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from cai.backends.budget import Budget
from cai.cli.screen import TerminalScreen
from cai.config import RunConfig, load_config
from cai.constitution import Constitution, load_constitution
from cai.errors import InputError, Problem
from cai.files import read_json

RATES = ("harmful_rate", "helpful_rate", "evasive_rate")
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
    config = load_config(path, settings)
    law = constitution_of(config, path.parent)
    folder = folder or Path("runs") / path.stem
    if not _RUN_NAME.fullmatch(folder.name):
        raise InputError([Problem(str(folder), "the name of a run may hold letters, digits, dots, dashes and underscores")])
    if dry_run:
        from cai.pipeline.estimate import estimate

        print(estimate(config, law, path.parent, budget))
        return
    from cai.pipeline.preflight import check_named

    check_named(path, config, until)
    print_run(path, config, law, folder, until, redo, budget)


def constitution_of(config: RunConfig, base: Path) -> Constitution:
    """The constitution a config names: a file relative to the run file, or a name."""
    beside = base / config.constitution
    return load_constitution(beside if beside.suffix and beside.is_file() else config.constitution)


def print_run(path: Path, config: RunConfig, law: Constitution, folder: Path, until: str, redo: Sequence[str], budget: Budget) -> None:
    screen = TerminalScreen()
    screen.stage("cai", f"{path} with the constitution {law.name} ({len(law.principles)} principles) in {folder}")
    from cai.pipeline.execute import execute  # torch and transformers load from here on
    from cai.pipeline.run import open_run

    before = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    run = open_run(folder, config, law, path.parent, screen, budget)
    with run.memo:
        metrics = execute(run, until=until, redo=redo, warn=screen.warn)
    screen.console.print(stage_table(metrics))
    if "policies" in metrics:
        screen.console.print(policy_table(metrics))
    for line in movement(before, metrics):
        print(line)
    memo = metrics["memo"]
    print(f"model calls made now: {memo['calls']:,}; remembered: {memo['hits']:,}; seconds in all: {sum(metrics['seconds'].values()):.0f}")
    from cai.report.page import write_report

    print(f"report: {write_report(folder)}")


def stage_table(metrics: dict[str, Any]) -> Table:
    """What each stage did."""
    table = Table("stage", "did", "calls", "remembered", "seconds", box=None)
    for name, seconds in metrics["seconds"].items():
        figures = metrics["stages"].get(name, {})
        did = ", ".join(
            f"{key.replace('_', ' ')} {_short(value)}" for key, value in figures.items() if isinstance(value, int | float) and value
        )
        counts = metrics["memo"]["by_stage"].get(name, {"calls": 0, "hits": 0})
        table.add_row(name, did, f"{counts['calls']:,}", f"{counts['hits']:,}", f"{seconds:.1f}")
    return table


def policy_table(metrics: dict[str, Any]) -> Table:
    """The policies side by side."""
    table = Table("policy", "harmful", "helpful", "evasive", "judge: wins", "reward", "KL from initial", box=None, title="held-out prompts")
    for name, figures in metrics["policies"].items():
        rates = [f"{figures[key]:.1%}" if key in figures else "" for key in ("harmful_rate", "helpful_rate", "evasive_rate")]
        won = f"{figures['win_rate']['value']:.0%}" if "win_rate" in figures else ""
        table.add_row(name, *rates, won, f"{figures.get('reward', float('nan')):.2f}", f"{figures['kl_from_initial']:.1f}")
    return table


def movement(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """How the policies moved since the last time this run was finished: rates and attributes that changed by 5 points or more."""
    lines = []
    for name, now in after.get("policies", {}).items():
        then = before.get("policies", {}).get(name, {})
        moved = [(key.removesuffix("_rate"), then[key], now[key]) for key in RATES if key in then and key in now]
        for attribute, sets in now.get("attributes", {}).items():
            moved += [
                (f"{attribute} ({kind})", then["attributes"][attribute][kind], rate) for kind, rate in sets.items() if "attributes" in then
            ]
        shown = [f"{what} {old:.0%} -> {new:.0%}" for what, old, new in moved if abs(new - old) >= MOVED]
        if shown:
            lines.append(f"{name} moved: {', '.join(shown)}")
    if lines:
        lines.insert(0, f"since the constitution {before['constitution']['hash']}:")
    return lines


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
