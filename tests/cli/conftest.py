"""Commands called in this process, and a run folder for those that read one."""

import pytest
from made_runs import make_run
from typer.testing import CliRunner

from cai.cli.app import app


@pytest.fixture
def cai(monkeypatch):
    """Call a command in this process: ``cai("status", "runs/a")``."""

    def call(*arguments, text=None, code=0):
        done = CliRunner().invoke(app, [*map(str, arguments)], input=text)
        assert done.exit_code == code, done.output + repr(done.exception)
        return done

    return call


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """``runs/a`` in an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return make_run(tmp_path / "runs/a")
