"""``cai paper``: several experiments, of which some fail."""

import pytest
from typer.testing import CliRunner

from cai.cli.app import app
from cai.errors import InputError
from cai.paper.measures import MEASURES, Point
from cai.paper.runs import Runs

FILE = "title: {0}\nsource: S\nabout: A\nmeasure: rounds\nx: x\ny: y\narms: {{a: {{}}}}\n"


def rounds(experiment, runs):
    if experiment.title == "broken":
        raise ZeroDivisionError("nothing to divide")
    if experiment.title == "refused":
        raise InputError("revise.rounds: is missing")
    return [Point("a", "harmless", 0.5)]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(Runs, "run", lambda *_: None)
    monkeypatch.setitem(MEASURES, "rounds", rounds)
    for name in ("broken", "good", "refused"):
        (tmp_path / f"{name}.yaml").write_text(FILE.format(name))
    return tmp_path


def paper(folder, *names):
    out = ["--seeds", "1", "--out", str(folder), "--runs", str(folder)]
    return CliRunner().invoke(app, ["paper", *(str(folder / name) for name in names), *out])


def test_an_experiment_that_fails_does_not_stop_the_others(files):
    done = paper(files, "broken.yaml", "refused.yaml", "good.yaml")
    assert done.exit_code == 1
    page = (files / "index.md").read_text(encoding="utf-8")
    assert "## good" in page
    assert "broken" not in page.split("```")[2]
    assert "ZeroDivisionError: nothing to divide" in done.stderr
    assert "refused.yaml failed: revise.rounds: is missing" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"failed, see above: {files / 'broken.yaml'}, {files / 'refused.yaml'}"


def test_one_experiment_alone_fails_as_any_command(files):
    assert isinstance(paper(files, "refused.yaml").exception, InputError)


def test_names_are_checked_before_anything_runs(files):
    done = paper(files, "good.yaml", "fig77")
    assert isinstance(done.exception, InputError)
    assert not (files / "results").exists()
