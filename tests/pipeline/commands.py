"""A project's run, in this process or by the command line, and what it leaves there."""

import subprocess
import sys
from pathlib import Path

from cai.config import load_config
from cai.constitution.load import find_constitution, load_constitution
from cai.files import read_json
from cai.pipeline.execute import execute
from cai.pipeline.reporter import NullReporter
from cai.pipeline.run import open_run


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


class Lines(NullReporter):
    """A reporter that keeps its lines, each after the name of its stage."""

    def __init__(self):
        self.stages, self.lines = [], []

    def stage(self, name, title):
        self.stages.append(name)

    def up_to_date(self, name):
        self.stages.append(name)
        self.lines.append(f"{name}: up to date")

    def info(self, text):
        self.lines.append(f"{self.stages[-1]}: {text}")

    def warn(self, text):
        self.lines.append(text)

    @property
    def done(self):
        """The stages that were not up to date."""
        return [name for name in self.stages if f"{name}: up to date" not in self.lines]


def opened(project: Path, *overrides: str, name: str = "r", reporter=None):
    """The run of ``examples/run.yaml``, open for work."""
    path = project / "examples/run.yaml"
    config = load_config(path, overrides)
    constitution = load_constitution(find_constitution(config.constitution, path.parent))
    return open_run(project / "runs" / name, config, constitution, path.parent, reporter)


def run(project: Path, *overrides: str, until="", redo=(), name: str = "r", reporter=None):
    """Run the project in this process, as ``cai run`` does; returns ``metrics.json``."""
    the_run = opened(project, *overrides, name=name, reporter=reporter)
    try:
        with the_run.cache:
            execute(the_run, until=until, redo=redo)
    finally:
        the_run.lock.release()
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
    return found, {k: v for k, v in metrics.items() if k not in ("cache", "seconds")}
