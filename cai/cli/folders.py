"""The folder of a run that a command reads: the one that is named, or the newest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.errors import InputError, Problem

RUNS = Path("runs")
"""Where ``cai run`` puts its runs unless it is told otherwise."""

RunFolder = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="Folder of a run; by default the newest in runs/."),
]


def run_folder(named: Path | None) -> Path:
    """Find the folder of a run; a folder that nobody named is printed, so that it is known.

    Args:
        named: The folder that the user named, if any.

    Raises:
        InputError: if it is not the folder of a run, or there is no run to take.
    """
    if named is not None:
        if not _is_run(named):
            raise InputError([Problem(str(named), "is not the folder of a run")])
        return named
    runs = [path for path in RUNS.glob("*") if _is_run(path)]
    if not runs:
        raise InputError("there is no run in runs/; name the folder of a run")
    newest = max(runs, key=_started)
    print(f"run {newest}")
    return newest


def print_stale(folder: Path, kind: str) -> None:
    """Say that results are out of date, and why, before they are shown.

    Args:
        folder: Folder of the run.
        kind: The stage that the results are of, such as ``judge``, in every iteration.
    """
    from cai.pipeline.metrics import open_for_reading
    from cai.pipeline.stages import plan_stages
    from cai.pipeline.states import stage_states

    with open_for_reading(folder) as run:
        for state in stage_states(run, plan_stages(run.config)).values():
            if state.is_stale and state.name.partition("-")[0] == kind:
                print(f"{state.name} is {state}")


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def _started(folder: Path) -> float:
    """When ``cai run`` last opened a run: it writes the run's settings first."""
    return (folder / "config.yaml").stat().st_mtime
