"""What the report tells, gathered from a run's folder: figures, effects per principle, chains, labels, answers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from cai.constitution.lock import read_lock
from cai.constitution.schema import Constitution
from cai.documents import load
from cai.errors import InputError, Problem
from cai.evaluate.gold import Column, columns
from cai.files import read_json, read_records
from cai.keys import shuffled
from cai.pipeline.layout import iteration_folders
from cai.records import Preference, Revision, Sample, Status

SHOWN = 6
"""Chains, labels and prompts that are printed in full."""

TROUBLES = (
    "failed",
    "filtered",
    "empty",
    "truncated",
    "too_long",
    "dropped_too_long",
    "skipped_steps",
    "prompts_without_a_pair",
)
"""Figures of a stage that count what did not go as it should."""


class Effect(NamedTuple):
    """What one principle did in a run."""

    principle: str
    title: str
    steps: int  # rounds in which it was drawn for revising
    changed: int  # how many of them changed the reply
    labels: int  # readings of the judge by it
    decisive: int  # how many of them are further than 0.1 from one half


class ReportData(NamedTuple):
    """Everything the page shows."""

    name: str
    constitution: Constitution
    config: dict[str, Any]
    metrics: dict[str, Any]
    training: list[dict[str, float]]  # one row per PPO update of the last round
    effects: list[Effect]
    chains: list[Revision]
    labels: list[Preference]
    audit: dict[
        str, Any
    ]  # what was found in the last round's labels before training; empty where that is not done
    rewarded: dict[str, Any]  # what the reward model's training measured in the last round
    optimised: dict[str, Any]  # and PPO's
    answers: list[tuple[str, str, dict[str, str]]]  # prompt, its kind, and per policy its answer
    columns: dict[str, Column]  # what is shown of the gold flags, by title
    trouble: list[str]


def gather(folder: Path, metrics: dict[str, Any] | None = None) -> ReportData:
    """Read a run's folder; ``metrics`` are those of its ``metrics.json`` where none are given.

    Raises:
        InputError: if it is not the folder of a run.
    """
    path = folder / "metrics.json"
    if metrics is None:
        metrics = dict(read_json(path)) if path.is_file() else {}
    if not metrics.get("seconds"):
        raise InputError([Problem(str(folder), "holds no finished stage of a run")])
    constitution = read_lock(folder / "constitution.lock.yaml")
    revisions = _records(folder / "revise", Revision)
    preferences = [
        p for judged in iteration_folders(folder, "judge") for p in _records(judged, Preference)
    ]
    log, audited = (
        iteration_folders(folder, "ppo")[-1] / "log.jsonl",
        iteration_folders(folder, "audit")[-1] / "audit.json",
    )
    return ReportData(
        name=folder.name,
        constitution=constitution,
        config=load(folder / "config.yaml").value,
        metrics=metrics,
        training=[json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if log.is_file()
        else [],
        effects=effects(constitution, revisions, preferences),
        chains=chosen_chains(revisions),
        labels=chosen_labels(preferences),
        audit=read_json(audited) if audited.is_file() else {},
        rewarded=metrics.get("stages", {}).get(iteration_folders(folder, "reward")[-1].name, {}),
        optimised=metrics.get("stages", {}).get(iteration_folders(folder, "ppo")[-1].name, {}),
        answers=answers(folder, list(metrics.get("policies", {}))),
        columns=columns(metrics.get("policies", {})),
        trouble=trouble(metrics, revisions, preferences),
    )


def _records(folder: Path, kind: type[Any]) -> list[Any]:
    return (
        read_records(folder / "records.jsonl", kind) if (folder / "manifest.json").is_file() else []
    )


def effects(
    constitution: Constitution, revisions: Sequence[Revision], preferences: Sequence[Preference]
) -> list[Effect]:
    """One row per principle, those that did most first."""
    changed: dict[str, list[bool]] = defaultdict(list)
    decisive: dict[str, list[bool]] = defaultdict(list)
    for revision in revisions:
        for step in revision.steps:
            changed[step.principle].append(not step.unchanged)
    for preference in preferences:
        for judgment in preference.judgments:
            if judgment.p_first is not None:
                decisive[judgment.principle].append(abs(judgment.p_first - 0.5) > 0.1)
    rows = [
        Effect(
            name,
            principle.title,
            len(changed[name]),
            sum(changed[name]),
            len(decisive[name]),
            sum(decisive[name]),
        )
        for name, principle in constitution.principles.items()
    ]
    return sorted(rows, key=lambda row: -(row.changed + row.decisive))


def chosen_chains(revisions: Sequence[Revision]) -> list[Revision]:
    """A few chains in keyed order, those that changed the reply first."""
    order = shuffled(revisions, "report")
    return sorted(order, key=lambda r: all(step.unchanged for step in r.steps))[:SHOWN]


def chosen_labels(preferences: Sequence[Preference]) -> list[Preference]:
    """A few labels in keyed order, clear ones first."""
    order = [(p, p.p_first) for p in shuffled(preferences, "report") if p.p_first is not None]
    return [p for p, _ in sorted(order, key=lambda pair: abs(pair[1] - 0.5) < 0.1)][:SHOWN]


def answers(folder: Path, policies: Sequence[str]) -> list[tuple[str, str, dict[str, str]]]:
    """A few held-out prompts with the answer of each policy."""
    samples = _records(folder / "evaluate", Sample)
    by_prompt: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_prompt[sample.prompt.id].append(sample)
    groups = shuffled([g for g in by_prompt.values() if len(g) == len(policies)], "report")
    kinds = sorted({g[0].prompt.kind for g in groups})
    shown = [g for kind in kinds for g in [g for g in groups if g[0].prompt.kind == kind][:SHOWN]]
    return [
        (
            g[0].prompt.text,
            g[0].prompt.kind,
            {name: s.response for name, s in zip(policies, g, strict=True)},
        )
        for g in shown
    ]


def trouble(
    metrics: dict[str, Any], revisions: Sequence[Revision], preferences: Sequence[Preference]
) -> list[str]:
    """What did not go as it should, in sentences; nothing is left out because it is small."""
    found = []
    failed = Counter(step.status for r in revisions for step in r.steps if step.status != "ok")
    found += [
        f"{count} revision steps were {status}; the reply before was kept"
        for status, count in failed.items()
    ]
    unscored = sum(p.p_first is None for p in preferences)
    if unscored:
        found.append(
            f"{unscored} of {len(preferences)} comparisons could not be scored and have no label"
        )
    policies = metrics.get("policies", {}).items()
    found += [
        f"{name}: {stage_metrics[status]} of {stage_metrics['n']} answers to held-out prompts were {status.replace('_', ' ')}"
        for name, stage_metrics in policies
        for status in get_args(Status)
        if stage_metrics.get(status)
    ]
    for stage, stage_metrics in metrics["stages"].items():
        for key, value in stage_metrics.items():
            if value and key in TROUBLES:
                found.append(f"{stage}: {value:g} {key.replace('_', ' ')}")
    for reason, count in metrics["stages"].get("reward", {}).get("skipped_human_rows", {}).items():
        found.append(f"reward: {count} human rows left out, {reason}")
    return found
