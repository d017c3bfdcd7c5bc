"""The state of every stage of a run: done, out of date, failed, interrupted or to do.

The only place that decides what belongs to the current settings and constitution. The status, the
tables, metrics.json, the report, exports and cards take it from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cai.pipeline.manifest import Manifest, failed_requests, read_failure, read_manifest
from cai.pipeline.provenance import diff_inputs, stage_inputs
from cai.pipeline.run import Run
from cai.pipeline.stage import PlannedStage

Status = Literal["done", "finished with failures", "out of date", "failed", "interrupted", "to do"]


@dataclass(frozen=True)
class StageState:
    """The state of one stage.

    Attributes:
        name: The stage's name, such as ``judge-2``.
        status: ``done``: its result is that of the current settings, files and constitution.
            ``finished with failures``: the same, but some requests failed, and the next run sends
            them again. ``out of date``: it has a result of earlier ones. ``failed``,
            ``interrupted``: it began and has no result. ``to do``: it has not begun.
        reasons: Why it is out of date, or what failed; empty otherwise.
        constitution: Hash of the constitution that its result belongs to; empty if there is no
            result, or if the result does not depend on a constitution.
        manifest: What is known of its result; None if there is none.
    """

    name: str
    status: Status
    reasons: tuple[str, ...] = ()
    constitution: str = ""
    manifest: Manifest | None = None

    @property
    def is_done(self) -> bool:
        """Whether the stage has a result that belongs to the current settings."""
        return self.status in ("done", "finished with failures")

    @property
    def is_stale(self) -> bool:
        """Whether the stage has a result that belongs to earlier settings or constitution."""
        return self.status == "out of date"

    def __str__(self) -> str:
        return f"{self.status}: {', '.join(self.reasons)}" if self.reasons else self.status


def stage_states(run: Run, planned: Sequence[PlannedStage]) -> dict[str, StageState]:
    """The state of each stage of a run, in order.

    A stage that reads a stage without a current result is out of date too. Files of the settings
    that cannot be found do not make a stage out of date, so that a run can be looked at elsewhere.

    Args:
        run: The run.
        planned: The stages that its settings ask for.
    """
    states: dict[str, StageState] = {}
    depends_on_constitution: set[str] = set()
    for stage in planned:
        if stage.stage.uses_constitution(run.config) or depends_on_constitution.intersection(
            stage.input_names
        ):
            depends_on_constitution.add(stage.name)
        state = _state(run, stage, states)
        constitution = _constitution_of(run, state) if stage.name in depends_on_constitution else ""
        states[stage.name] = StageState(
            state.name, state.status, state.reasons, constitution, state.manifest
        )
    return states


def _constitution_of(run: Run, state: StageState) -> str:
    """The constitution of a result; that of a current one is the run's, whenever it was made."""
    if state.is_done:
        return run.constitution.hash
    return state.manifest.constitution if state.manifest is not None else ""


def _state(run: Run, planned: PlannedStage, states: Mapping[str, StageState]) -> StageState:
    folder = run.folder / planned.name
    manifest = read_manifest(folder)
    if manifest is None:
        failure = read_failure(folder)
        if failure:
            return StageState(planned.name, "failed", (failure.splitlines()[0],))
        return StageState(planned.name, "interrupted" if folder.is_dir() else "to do")
    stale = [name for name in planned.input_names if not states[name].is_done]
    reasons = diff_inputs(manifest.inputs, _known_inputs(run, planned, manifest.inputs, stale))
    reasons += [f"{name} is {states[name].status}" for name in stale]
    status: Status = "out of date" if reasons else "done"
    if not reasons and manifest.failures and planned.stage.asks_again:
        status, reasons = "finished with failures", [failed_requests(manifest.failures)]
    return StageState(planned.name, status, tuple(reasons), manifest=manifest)


def _known_inputs(
    run: Run, planned: PlannedStage, before: Mapping[str, Any], stale: Sequence[str]
) -> dict[str, Any]:
    """The inputs as they are now; what cannot be known now stays as it was.

    Args:
        run: The run.
        planned: The stage.
        before: The inputs of its manifest.
        stale: Stages that it reads and that have no current result.
    """
    inputs = stage_inputs(run, planned)
    old_stages, old_files = before.get("stages", {}), before.get("files", {})
    for name in stale:
        inputs["stages"][name] = old_stages.get(name, "")
    for name, content in inputs["files"].items():
        inputs["files"][name] = content or old_files.get(name, "")
    for role, model in inputs["models"].items():
        old = before.get("models", {}).get(role, {})
        is_missing = not model["fingerprint"].startswith("local:")
        if is_missing and old.get("name") == model["name"]:
            model["fingerprint"] = old["fingerprint"]
    return inputs
