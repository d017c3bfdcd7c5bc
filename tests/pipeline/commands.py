"""The command line in a project folder, and what it leaves there."""

import subprocess
import sys
from pathlib import Path

from cai.files import read_json


def cai(project: Path, *arguments: str, check: bool = True, **options):
    done = subprocess.run(
        [sys.executable, "-m", "cai", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def run(project: Path, *arguments: str, name: str = "r", **options):
    cai(project, "run", "examples/run.yaml", "--run", f"runs/{name}", *arguments, **options)
    return read_json(project / "runs" / name / "metrics.json")


def content(project: Path, name: str = "r"):
    """What a run wrote, less times and what was asked when."""
    folder = project / "runs" / name
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.name in ("records.jsonl", "model.safetensors", "evaluation.json")
    }
    metrics = read_json(folder / "metrics.json")
    return found, {k: v for k, v in metrics.items() if k not in ("memo", "seconds")}
