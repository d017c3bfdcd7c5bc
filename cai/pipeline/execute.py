"""Do the stages in order, each only if it is not finished already, and say what was reused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from cai import processes
from cai.errors import InputError, Problem, did_you_mean
from cai.files import write_json
from cai.pipeline.origin import changes, origin
from cai.pipeline.run import Run
from cai.pipeline.stages import Stage, stages_of


def execute(run: Run, *, until: str = "", redo: Sequence[str] = (), warn: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run all stages (up to and with ``until``) that are not finished; returns and writes ``metrics.json``.

    A stage is finished when its settings, what it reads (records, files, models) and, where it reads it, the constitution are
    those it was made from. What a stage asks of a model goes through the memo, so doing a stage again repeats only what changed.
    """
    stages = stages_of(run.config)
    names = [stage.name for stage in stages]
    for name in [*redo, *([until] if until else [])]:
        if name not in names:
            raise InputError([Problem(f"stage {name}", f"there is no such stage{did_you_mean(name, names)}; there are {', '.join(names)}")])
    for message in doubts(run):
        warn(message)
    wanted = stages[: names.index(until) + 1] if until else stages
    for stage in wanted:
        _do(run.at(stage.round or run.config.rounds), stage, again=stage.name in redo)
    metrics = collect(run)
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def _do(run: Run, stage: Stage, *, again: bool) -> None:
    wanted = origin(run, stage)
    run.screen.stage(stage.name, stage.title)
    before = run.manifest(stage.name) or {}
    changed = changes(before["made_from"], wanted) if "made_from" in before else []
    if before.get("made_from") == wanted and not again and run.is_whole(stage.name):
        run.screen.note("finished before")
        return
    if changed:
        run.screen.note(f"made again: {', '.join(changed)}")
    processes.wait()  # before it is undone, all must have seen that it is to do
    if processes.is_main():
        (run.stage_folder(stage.name) / "manifest.json").unlink(missing_ok=True)
    started = time.monotonic()
    metrics = stage.work(run)
    seconds = time.monotonic() - started
    processes.wait()  # what they all need must be written
    run.finish(stage.name, wanted, metrics, seconds)
    processes.wait()
    counts = run.memo.counts.get(stage.name)
    asked = f"; {counts.calls:,} model calls made, {counts.hits:,} remembered" if counts else ""
    run.screen.note(f"{seconds:.1f} s{asked}")
    for note in run.notes():
        run.screen.note(note)


def doubts(run: Run) -> list[str]:
    """What a user should know before the run: principles that the reference model has no concept of."""
    from cai.models.names import REFERENCE

    if REFERENCE not in (run.config.critic, run.config.judge_model):
        return []
    from cai.reference.gold import unknown_to_reference

    used = {**run.law.used_for("revise"), **run.law.used_for("judge")}
    return [doubt for name in used if (doubt := unknown_to_reference(run.law.principles[name]))]


def collect(run: Run) -> dict[str, Any]:
    """``metrics.json``: the figures of all finished stages (schema in docs/reference/metrics.md)."""
    names, last = [stage.name for stage in stages_of(run.config)], run.at(run.config.rounds)
    manifests = {name: manifest for name in names if (manifest := run.manifest(name))}
    stages = {name: manifest["metrics"] for name, manifest in manifests.items()}
    metrics: dict[str, Any] = {
        "constitution": {"name": run.law.name, "hash": run.law.hash},
        "seed": run.config.seed,
        "stages": {name: figures for name, figures in stages.items() if name != "evaluate"},
        "seconds": {name: manifest["seconds"] for name, manifest in manifests.items()},
        "memo": {
            "calls": sum(c.calls for c in run.memo.counts.values()),
            "hits": sum(c.hits for c in run.memo.counts.values()),
            "by_stage": {name: {"calls": c.calls, "hits": c.hits} for name, c in run.memo.counts.items()},
            "ever": {name: {"calls": c.calls, "tokens_in": c.tokens_in, "tokens_out": c.tokens_out} for name, c in run.memo.totals().items()},
        },
    }  # fmt: skip
    ppo, reward = stages.get(last.named("ppo"), {}), stages.get(last.named("reward"))
    if ppo.get("updates"):
        metrics["ppo"] = {key: ppo[key] for key in ("kl", "reward_before", "reward_after")}
    if reward:
        metrics["reward_model"] = {"accuracy": reward["held_out_accuracy"], "n": reward["held_out"]}
    for key, value in stages.get("evaluate", {}).items():
        metrics[key] = {**metrics.get(key, {}), **value} if isinstance(value, dict) else value
    return metrics
