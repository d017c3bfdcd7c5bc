"""Do the stages in order, each only if it is not finished already, and say what was reused."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai import distributed
from cai.backends.response_cache import ResponseCache
from cai.config import RunConfig, load_config
from cai.constitution.lock import read_lock
from cai.errors import CaiError, InputError, LimitReached, Problem, did_you_mean
from cai.files import read_json, write_json
from cai.pipeline.held_out import held_out_notes
from cai.pipeline.provenance import changes, origin
from cai.pipeline.run import Run
from cai.pipeline.stages import Stage, stages_of


def execute(
    run: Run,
    *,
    until: str = "",
    redo: Sequence[str] = (),
) -> dict[str, Any]:
    """Run all stages (up to and with ``until``) that are not finished; returns and writes ``metrics.json``.

    It is also written when a stage fails or is interrupted, with the figures of the finished ones.

    A stage is finished when its settings, what it reads (records, files, models) and, where it reads it, the constitution are
    those it was made from. What a stage asks of a model goes through the memo, so doing a stage again repeats only what changed.
    """
    wanted = named_stages(run.config, until, redo)
    for message in startup_warnings(run):
        run.reporter.warn(message)
    try:
        for stage in wanted:
            _do(run.at(stage.round or run.config.iterations), stage, again=stage.name in redo)
    except BaseException:
        with contextlib.suppress(
            CaiError, OSError, sqlite3.Error
        ):  # the first error is the one to report
            distributed.on_main(write_json, run.folder / "metrics.json", collect(run))
        raise
    metrics = collect(run)
    distributed.on_main(write_json, run.folder / "metrics.json", metrics)
    return metrics


def named_stages(config: RunConfig, until: str = "", redo: Sequence[str] = ()) -> tuple[Stage, ...]:
    """The stages of a run up to and with ``until``.

    Raises:
        InputError: if there is no stage of a given name.
    """
    stages = stages_of(config)
    names = [stage.name for stage in stages]
    for name in [*redo, *([until] if until else [])]:
        if name not in names:
            raise InputError(
                [
                    Problem(
                        f"stage {name}",
                        f"there is no such stage{did_you_mean(name, names)}; there are {', '.join(names)}",
                    )
                ]
            )
    return stages[: names.index(until) + 1] if until else stages


def _do(run: Run, stage: Stage, *, again: bool) -> None:
    wanted = origin(run, stage)
    run.reporter.stage(stage.name, stage.title)
    before = run.manifest(stage.name) or {}
    changed = changes(before["made_from"], wanted) if "made_from" in before else []
    if before.get("made_from") == wanted and not again and run.is_whole(stage.name):
        run.reporter.up_to_date()
        return
    if changed:
        run.reporter.info(f"made again: {', '.join(changed)}")
    distributed.wait()  # before it is undone, all must have seen that it is to do
    if distributed.is_main():
        (run.stage_folder(stage.name) / "manifest.json").unlink(missing_ok=True)
    started = time.monotonic()
    metrics = stage.work(run)
    seconds = time.monotonic() - started
    distributed.wait()  # what they all need must be written
    run.finish(stage.name, wanted, metrics, seconds)
    distributed.wait()
    counts = run.cache.usage.get(stage.name)
    asked = (
        f"; {counts.requests:,} model calls made, {counts.cached:,} remembered" if counts else ""
    )
    run.reporter.info(f"{seconds:.1f} s{asked}")
    for note in run.notes():
        run.reporter.info(note)


def startup_warnings(run: Run) -> list[str]:
    """Warn of principles that a shipped critic or judge has no concept of."""
    from cai.evaluate.gold import gold_for

    gold = gold_for(None, [run.config.critic_model, run.config.judge_model])
    if gold is None:
        return []
    used = {**run.constitution.used_for("revise"), **run.constitution.used_for("judge")}
    return list(gold.unknown_principles([run.constitution.principles[name] for name in used]))


def figures_of(folder: Path) -> dict[str, Any]:
    """The figures of all finished stages of a run on disk, as in ``metrics.json``, also of one that was stopped or killed.

    Raises:
        InputError: if it is not the folder of a run.
    """
    if not (folder / "config.yaml").is_file():
        raise InputError([Problem(str(folder), "is not the folder of a run")])
    config, written = load_config(folder / "config.yaml"), folder / "metrics.json"
    with _memo_of(folder) as cache:
        metrics = collect(
            Run(folder, config, read_lock(folder / "constitution.lock.yaml"), cache, folder)
        )
    last = (
        read_json(written)["memo"] if written.is_file() else metrics["memo"]
    )  # what the last command asked
    metrics["memo"] = last | {"ever": metrics["memo"]["ever"] or last["ever"]}
    return metrics


def _memo_of(folder: Path) -> ResponseCache:
    """The memo of a run; an empty one where it is gone, or the folder can only be read."""
    try:
        return ResponseCache(
            folder / "responses.sqlite"
            if (folder / "responses.sqlite").is_file()
            else Path(":memory:")
        )
    except LimitReached:
        return ResponseCache(Path(":memory:"))


def collect(run: Run) -> dict[str, Any]:
    """``metrics.json``: the figures of all finished stages (schema in docs/reference/metrics.md)."""
    names, last = [stage.name for stage in stages_of(run.config)], run.at(run.config.iterations)
    manifests = {name: manifest for name in names if (manifest := run.manifest(name))}
    stages = {name: manifest["metrics"] for name, manifest in manifests.items()}
    metrics: dict[str, Any] = {
        "constitution": {"name": run.constitution.name, "hash": run.constitution.hash},
        "seed": run.config.seed,
        "unfinished": [name for name in names if name not in manifests],
        "stages": {name: metrics for name, metrics in stages.items() if name != "evaluate"},
        "seconds": {name: manifest["seconds"] for name, manifest in manifests.items()},
        "memo": {
            "calls": sum(c.requests for c in run.cache.usage.values()),
            "hits": sum(c.cached for c in run.cache.usage.values()),
            "by_stage": {
                name: {"calls": c.requests, "hits": c.cached} for name, c in run.cache.usage.items()
            },
            "ever": {
                name: {"calls": c.requests, "tokens_in": c.tokens_in, "tokens_out": c.tokens_out}
                for name, c in run.cache.totals().items()
            },
        },
    }
    ppo, reward = stages.get(last.named("ppo"), {}), stages.get(last.named("reward"), {})
    if ppo.get("num_updates"):
        metrics["ppo"] = {
            key: ppo[key] for key in ("kl", "reward_before", "reward_after") if key in ppo
        }
    measured = {"accuracy": reward.get("eval_accuracy"), "n": reward.get("eval_pairs")}
    if any(value is not None for value in measured.values()):
        metrics["reward_model"] = {
            key: value for key, value in measured.items() if value is not None
        }
    for key, value in stages.get("evaluate", {}).items():
        metrics[key] = {**metrics.get(key, {}), **value} if isinstance(value, dict) else value
    if "evaluate" in stages and (
        notes := held_out_notes(run.config, stages.get("prompts", {})) + metrics.get("notes", [])
    ):
        metrics["notes"] = notes
    return metrics
