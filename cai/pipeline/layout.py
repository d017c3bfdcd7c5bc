"""The folder of a run: what each stage's folder is called."""

from __future__ import annotations

from pathlib import Path

from cai.documents import load

ITERATED = ("compare", "judge", "audit", "reward", "ppo")
"""The stages that are done once in every iteration of a run."""


def stage_name(stage: str, iteration: int) -> str:
    """The name of a stage in an iteration, which is also its folder: ``judge``, ``judge-2`` ...

    Args:
        stage: The stage without its iteration.
        iteration: The iteration, from 1; of no effect for stages that are done once.
    """
    return f"{stage}-{iteration}" if iteration > 1 and stage in ITERATED else stage


def iteration_folders(run_folder: Path, stage: str) -> list[Path]:
    """The folders of a stage, one for each iteration that the run's config asks for.

    Folders that an earlier config with more iterations has left behind are not among them.

    Args:
        run_folder: The folder of a run.
        stage: An iterated stage, such as ``judge``.
    """
    path = run_folder / "config.yaml"
    iterations = int(load(path).value.get("iterations", 1)) if path.is_file() else 1
    return [run_folder / stage_name(stage, number) for number in range(1, iterations + 1)]
