"""``cai test`` asks a judge as the run file says."""

import shutil

import pytest
import typer
import yaml

from cai.cli.judge_test import run_tests
from cai.errors import InputError

JUDGE = """
from cai.backends.scripted import ScriptedBackend

ASKED = []

def score(messages, options):
    ASKED.append(options)
    return (-0.1, -2.5) if "much" in messages[-2].content else (-2.5, -0.1)

def make():
    return ScriptedBackend(None, score, name="asked")
"""
PRINCIPLE = """
title: Little
critique: Find much.
revise: Write less.
compare: Which has less?
examples: [{prompt: How?, better: a little, worse: very much}]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("principles", "constitution"):
        (tmp_path / name).mkdir()
    (tmp_path / "principles/less.yaml").write_text(PRINCIPLE)
    (tmp_path / "constitution/mine.yaml").write_text(
        "title: Mine\nrevise: {principles: ['*']}\njudge: {principles: ['*']}\n"
    )
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "How?"}\n')
    run = {
        "constitution": "constitution/mine.yaml",
        "models": {"initial": "reference", "judge": "judge_that_asks:make"},
        "prompts": {"red_team": "prompts.jsonl", "benign": "prompts.jsonl"},
        "judge": {"method": "critique"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    (tmp_path / "judge_that_asks.py").write_text(JUDGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_file_names_the_judge_and_the_method(project, capsys):
    with pytest.raises(typer.Exit) as ended:
        run_tests(str(project / "run.yaml"))
    import judge_that_asks

    assert ended.value.exit_code == 0
    assert set(judge_that_asks.ASKED) == {("Yes", "No")}
    assert "plain       100.0% passed" in capsys.readouterr().out


def test_options_win_over_the_run_file(project):
    with pytest.raises(typer.Exit) as ended:
        run_tests(str(project / "run.yaml"), method="sampled_votes", judge=["reference"])
    assert ended.value.exit_code in (0, 1)


def test_without_a_run_file_the_method_is_that_of_a_run(project, capsys):
    from cai.cli.judge_test import _subject
    from cai.config import Judge

    method = _subject(str(project / "constitution/mine.yaml"), [], None).method
    assert method.name == Judge().method == "option_logprobs"
    assert method.delimiters == Judge().delimiters


def shown_by(capsys, *arguments, **options):
    with pytest.raises(typer.Exit):
        run_tests(*map(str, arguments), **options)
    return capsys.readouterr().out


def asked(shown):
    last = shown.splitlines()[-1]
    return int(last.split(":")[1].split(";")[0]), int(last.rsplit(" ", 1)[1])


def test_responses_are_remembered(project, capsys):
    first = asked(shown_by(capsys, project / "run.yaml"))
    assert first[0] > 1
    assert asked(shown_by(capsys, project / "run.yaml")) == (0, sum(first))
    assert asked(shown_by(capsys, project / "run.yaml", cache=project / "a/b.sqlite")) == first


def test_only_some_or_changed_principles_are_tested(project, capsys):
    (project / "principles/kind.yaml").write_text(PRINCIPLE.replace("How?", "Why?"))
    shown = shown_by(capsys, project / "run.yaml", only="ki*")
    assert " kind " in shown and " less " not in shown
    shutil.copytree(project, project / "old")
    (project / "principles/less.yaml").write_text(PRINCIPLE.replace("Which", "Who"))
    old = str(project / "old/constitution/mine.yaml")
    shown = shown_by(capsys, project / "run.yaml", changed_since=old)
    assert " less " in shown and " kind " not in shown
    with pytest.raises(InputError, match="no principle differs"):
        run_tests(str(project / "run.yaml"), only="kind", changed_since=old)
    with pytest.raises(InputError, match=r"lesss: matches no principle of mine \(did you mean"):
        run_tests(str(project / "run.yaml"), only="lesss")


def test_failures_show_their_answers_and_the_way(project, capsys):
    judge = JUDGE.replace('if "much" in', 'if "a little" in').replace('"asked"', '"wrong"')
    (project / "judge_that_errs.py").write_text(judge)
    shown = shown_by(capsys, project / "run.yaml", judge=["judge_that_errs:make"]).splitlines()
    at = next(i for i, line in enumerate(shown) if line.startswith("FAIL  plain"))
    assert shown[at + 1 : at + 3] == ["      right:   a little", "      wrong:   very much"]
    ways = {line.split()[-1] for line in shown if line.startswith("      changed: ")}
    assert {"praise", "verdict-a"} <= ways
    assert any("no problem at all." in line for line in shown if line.startswith("      wrong:"))


def test_a_run_is_tested_with_its_own_seed_and_cache(project, capsys):
    from cai.cli.judge_test import _subject
    from cai.constitution import load_constitution
    from cai.constitution.lock import write_lock

    config = yaml.safe_load((project / "run.yaml").read_text()) | {"seed": 7}
    (project / "runs/r").mkdir(parents=True)
    (project / "runs/r/config.yaml").write_text(yaml.safe_dump(config))
    (project / "runs/r/.base").write_text("../..")
    write_lock(
        load_constitution("constitution/mine.yaml"), project / "runs/r/constitution.lock.yaml"
    )
    subject = _subject("runs/r", [], None)
    assert subject.seed == 7 and list(subject.judges) == ["judge_that_asks:make"]
    shown_by(capsys, "runs/r")
    assert (project / "runs/r/responses.sqlite").is_file() and not (project / "runs/test").exists()
