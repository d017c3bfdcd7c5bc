"""The folder of a run: what each stage's folder is called."""

from __future__ import annotations

from pathlib import Path

from cai.documents import load


def stage_folder(stage: str, iteration: int) -> str:
    """The folder of an iterated stage, which is also its name: ``judge``, ``judge-2`` ...

    Args:
        stage: The stage without its iteration.
        iteration: The iteration, from 1.
    """
    return stage if iteration == 1 else f"{stage}-{iteration}"


def iteration_folders(run_folder: Path, stage: str) -> list[Path]:
    """The folders of an iterated stage, one for each iteration that the run's config asks for.

    Folders that an earlier config with more iterations has left behind are not among them.

    Args:
        run_folder: The folder of a run.
        stage: An iterated stage, such as ``judge``.
    """
    path = run_folder / "config.yaml"
    values = load(path).value if path.is_file() else {}
    stated = values.get("iterations", 1) if isinstance(values, dict) else 1
    iterations = stated if isinstance(stated, int) else 1
    return [run_folder / stage_folder(stage, number) for number in range(1, iterations + 1)]
