"""Files of a run that are damaged count as absent, in one line; figures that are not finite lose nothing."""

import json
import math
import shutil

import pytest
from commands import Lines, cai, content, run

from cai.cli.run import Options, run_pipeline
from cai.files import finite, read_json, read_object, write_json
from cai.pipeline.reporter import NullReporter
from cai.pipeline.training_job import TrainingJob
from cai.pipeline.training_log import training_log
from cai.report.page import write_report

DAMAGE = {
    "empty": b"",
    "cut": b'{"stage": "jud',
    "not text": b"\xff\xfe\x00" * 9,
    "deep": b"[" * 100_000,
    "a list": b"[1, 2]",
    "another object": b'{"inputs": 3, "metrics": "x", "outputs": [1]}',
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_manifest_is_an_unfinished_stage(judged_project, capsys, kind):
    path = judged_project / "runs/r/judge/manifest.json"
    path.write_bytes(DAMAGE[kind])
    before = content(judged_project)[0]
    lines = Lines()
    metrics = run(judged_project, until="judge", reporter=lines)
    assert lines.done == ["judge"] and metrics["cache"]["requests"] == 0
    assert content(judged_project)[0] == before
    assert capsys.readouterr().err.count(f"{path} is damaged and is not used") == 1


@pytest.mark.parametrize("kind", ["cut", "not text", "a list", "another object"])
def test_commands_go_on_beside_damaged_results(judged_project, monkeypatch, kind):
    folder = judged_project / "runs/r"
    for name in ("metrics.json", "previous_metrics.json", "audit/audit.json", "sft/failed.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(DAMAGE[kind])
    (folder / "audit/failed.json").write_bytes(DAMAGE[kind])
    for command in (("status",), ("audit",), ("influence",), ("report",), ("export",)):
        done = cai(judged_project, *command, "runs/r", check=False)
        assert "Traceback" not in done.stderr and done.returncode in (0, 3), done.stderr
    monkeypatch.chdir(judged_project)
    run_pipeline(judged_project / "examples/run.yaml", folder, Options(until="judge"))
    assert read_json(folder / "metrics.json")["stages"]["judge"]["labels"]


def test_a_figure_that_is_not_finite_loses_no_stage(judged_project, monkeypatch):
    shutil.rmtree(judged_project / "runs/r/sft")
    figures = {"loss": math.nan, "steps": 3, "by_source": {"human": math.inf, "ai": 0.5}}
    monkeypatch.setattr(TrainingJob, "train_sft", lambda *_: figures)
    lines = Lines()
    metrics = run(judged_project, until="sft", reporter=lines)
    assert metrics["stages"]["sft"] == {
        "steps": 3,
        "by_source": {"ai": 0.5},
        "not_finite": ["loss", "by_source.human"],
    }
    assert "sft: not a finite number, so left out: loss, by_source.human" in lines.lines
    write_report(judged_project / "runs/r")


def test_json_has_only_finite_numbers(tmp_path):
    value = {"a": math.nan, "b": [1.0, -math.inf], "c": {"d": math.inf}, "e": None, "f": (2,)}
    write_json(tmp_path / "x.json", value)
    assert read_object(tmp_path / "x.json") == {"b": [1.0, None], "c": {}, "e": None, "f": [2]}
    left_out = []
    finite(value, left_out)
    assert left_out == ["a", "b.1", "c.d"]
    assert read_object(tmp_path / "none.json") is None


def test_the_log_names_what_is_not_finite(tmp_path):
    path = tmp_path / "log.jsonl"
    write = training_log(path, NullReporter())
    for step, loss in enumerate((1.0, math.nan, math.inf), start=1):
        write({"step": step, "steps": 3, "loss": loss})
    rows = [json.loads(row, parse_constant=pytest.fail) for row in path.read_text().splitlines()]
    assert [row.get("loss") for row in rows] == [1.0, None, None]
    assert [row.get("not_finite") for row in rows] == [None, ["loss"], ["loss"]]


def test_a_damaged_log_is_continued(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b'{"step": 1}\n{"step": \xff}\n[1]}\n{"step": "x"}\n{"step": 2}\n{"step": 3}\n'
    )
    training_log(path, NullReporter())({"step": 3, "steps": 3})
    assert [json.loads(row)["step"] for row in path.read_text().splitlines()] == [1, 2, 3]
