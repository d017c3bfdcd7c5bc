"""What the benchmarks that run an example with several seeds share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_example(name: str, folder: Path, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """Run an example in a folder and return its metrics.

    Args:
        name: The run file, below ``examples/``.
        folder: The folder of the run.
        seed: The seed.
        settings: More settings, as for ``--set``.
    """
    example = ROOT / "examples" / name
    command = [sys.executable, "-m", "cai", "run", str(example), "--run", str(folder)]
    for setting in (f"seed={seed}", *settings):
        command += ["--set", setting]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        sys.exit(completed.stdout + completed.stderr)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics
