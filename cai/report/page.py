"""Write ``report.html``: every text escaped, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from cai.evaluate.gold import columns, share_of
from cai.files import write_text
from cai.report import plots, tables
from cai.report.evaluations import read_evaluations
from cai.report.report_data import ReportData, gather

MAX_TEXT = 3_000
"""Characters of one text that are shown."""
FINAL_POLICIES = ("rl_cai", "dpo", "sl_cai")
"""The policies whose results are the headline, the one that went through most stages first."""


def write_report(
    folder: Path, out: Path | None = None, metrics: dict[str, Any] | None = None
) -> Path:
    """Write the report of a run.

    Args:
        folder: The folder of the run.
        out: The file to write; by default ``report.html`` in the folder.
        metrics: The metrics of the run; by default those of its ``metrics.json``.

    Returns:
        The file.

    Raises:
        InputError: If no stage of a run is finished in the folder.
    """
    data = gather(folder, metrics)
    path = out or folder / "report.html"
    template = _environment().get_template("page.html.jinja")
    page = template.render(
        data=data,
        metrics=data.metrics,
        evaluations=read_evaluations(folder),
        headline=headline(data.metrics.get("policies", {})),
        tables=_tables(data),
        plots=_plots(data),
    )
    write_text(path, page)
    return path


def headline(policies: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the gold rates of the initial and of the final policy.

    Args:
        policies: The metrics of each policy.

    Returns:
        For each rate its title, the initial value and the final one.
    """
    final = next((name for name in FINAL_POLICIES if name in policies), None)
    if final is None or "initial" not in policies:
        return []
    rates = []
    for flag, prompt_set in columns(policies).values():
        before = share_of(policies["initial"], (flag, prompt_set))
        after = share_of(policies[final], (flag, prompt_set))
        if before and after:
            title = f"{flag.replace('_', ' ')}, {set_name(prompt_set)} prompts"
            rates.append((title, tables.percent(before["value"]), tables.percent(after["value"])))
    return rates


def set_name(prompt_set: str) -> str:
    """Return the name of a set of prompts as people write it."""
    words = prompt_set.replace("red_team", "red-team").replace("_", " ")
    return words.replace("eval ", "held-out ")


def _tables(data: ReportData) -> dict[str, tables.Table]:
    policies = data.metrics.get("policies", {})
    on_gold = data.metrics.get("reward_model", {}).get("test_sets", {})
    return {
        "movement": tables.movement_table(data),
        "policies": tables.policy_table(policies),
        "harm": tables.harm_table(policies),
        "effects": tables.effect_table(data.effects),
        "audit": tables.audit_table(data.audit),
        "judges": tables.judges_table(data.audit),
        "judge_pairs": tables.judge_pairs_table(data.audit),
        "revision_audit": tables.revision_audit_table(data.metrics.get("stages", {})),
        "reward_by_principle": tables.reward_by_principle(data),
        "format_bias": tables.format_bias_table(data.reward),
        "reward_test_sets": tables.reward_test_sets(data.reward, on_gold),
        "stages": tables.stage_table(data.metrics),
    }


def _plots(data: ReportData) -> dict[str, Any]:
    judge_bins = data.metrics.get("judge", {}).get("calibration", [])
    human_bins = data.audit.get("human", {}).get("calibration", [])
    return {
        "rates": plots.rates(data.metrics.get("policies", {})),
        "training": plots.training(data.ppo_log),
        "eval_points": plots.eval_points(data.ppo.get("eval_points", [])),
        "calibration": plots.calibration(judge_bins, "share that is better"),
        "human_calibration": plots.calibration(human_bins, "share that people prefer"),
        "effects": plots.effects(data.effects),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": tables.percent,
        "number": tables.number,
        "shorten": _shorten,
        "set_name": set_name,
    }
    return environment


def _shorten(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]} … ({len(text) - MAX_TEXT:,} more characters)"
