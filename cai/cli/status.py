"""``cai status``: one row per stage of a run."""

from __future__ import annotations

from typing import Any

from cai.cli.folders import RunFolder, run_folder
from cai.config import load_config
from cai.files import read_json
from cai.pipeline.stages import stages_of

MAX_RESULTS = 40
"""Characters of a stage's results, so that a row fits into 80 columns."""


def status(folder: RunFolder = None) -> None:
    """Show which stages of a run are done.

    Example: cai status runs/quickstart
    """
    folder = run_folder(folder)
    for stage in stages_of(load_config(folder / "config.yaml")):
        manifest = folder / stage.name / "manifest.json"
        if manifest.is_file():
            print(_done(stage.name, read_json(manifest)))
        else:
            begun = (folder / stage.name).is_dir()
            print(f"{stage.name:<11}{'begun' if begun else 'to do'}")


def _done(name: str, manifest: dict[str, Any]) -> str:
    numbers = [
        f"{key.replace('_', ' ')} {value:.4g}"
        for key, value in manifest["metrics"].items()
        if isinstance(value, int | float) and value
    ]
    results = ", ".join(numbers)
    return f"{name:<11}done {manifest['seconds']:>7,.0f} s  {results[:MAX_RESULTS]}".rstrip()
