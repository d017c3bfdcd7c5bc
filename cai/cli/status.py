"""``cai status``: one row per stage."""

from __future__ import annotations

from pathlib import Path

from cai.config import load_config
from cai.errors import InputError, Problem
from cai.files import read_json
from cai.pipeline.stages import stages_of


def show_status(folder: Path) -> None:
    """Print which stages of a run are finished, and what they measured."""
    if not (folder / "config.yaml").is_file():
        raise InputError([Problem(str(folder), "is not the folder of a run")])
    for name in [stage.name for stage in stages_of(load_config(folder / "config.yaml"))]:
        path = folder / name / "manifest.json"
        if path.is_file():
            manifest = read_json(path)
            stage_metrics = ", ".join(
                f"{k} {v:.4g}" for k, v in manifest["metrics"].items() if isinstance(v, int | float)
            )
            print(
                f"{name:<10} finished {manifest['finished']}  {manifest['seconds']:>7.1f} s  {stage_metrics}"
            )
        else:
            print(f"{name:<10} {'begun' if (folder / name).is_dir() else 'to do'}")
