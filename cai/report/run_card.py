"""What the card of an exported model says about the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai.constitution.schema import Constitution
from cai.report.judge_report import judge_tables
from cai.report.markdown import markdown_environment
from cai.report.tables import audit_table, policy_table

LIMITS = {
    "notes": "",
    "failed": "failed",
    "out_of_date": "is not of the current settings; its figures are left out",
}
"""Metrics of a run that say what its figures do not show, and how a card says so of a stage."""


def run_card(
    name: str,
    judge: str,
    constitution: Constitution,
    metrics: Mapping[str, Any],
    audit: Mapping[str, Any],
    judge_report: Mapping[str, Any] | None = None,
) -> str:
    """Write the sections of a card about a model's constitution, labels, evaluation and limits.

    Args:
        name: The policy, or ``reward``.
        judge: The model, or models, that labeled the comparisons.
        constitution: The constitution of the run.
        metrics: The metrics of the run.
        audit: The audit of its labels; empty if there was none.
        judge_report: A report of ``cai judge-report`` on its judge.

    Returns:
        Markdown.
    """
    policies = metrics.get("policies", {})
    compared = {key: policies[key] for key in ("initial", name) if key in policies}
    sections = [("Labels", audit_table(audit))] if audit else []
    sections += [("Evaluation", policy_table(compared))] if name in compared else []
    judged = judge_tables(judge_report) if judge_report else []
    return (
        markdown_environment()
        .get_template("run_card.md.jinja")
        .render(
            constitution=constitution,
            judge=judge,
            sections=[*sections, *((f"Judge: {one.title}", one.table) for one in judged)],
            limits=[*_limits(metrics), *audit.get("gate_failures", ())],
        )
    )


def _limits(metrics: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key in LIMITS:
        value = metrics.get(key) or []
        if isinstance(value, Mapping):
            found += [f"the stage {stage} {LIMITS[key]}" for stage in value]
        else:
            found += [str(note) for note in value]
    return found
