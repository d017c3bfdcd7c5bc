"""``cai test`` asks a judge as the run file says."""

import pytest
import typer
import yaml

from cai.cli.judge_test import run_tests

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
def project(tmp_path):
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
        run_tests(str(project / "run.yaml"), method="sampled_votes", judge="reference")
    assert ended.value.exit_code in (0, 1)


def test_without_a_run_file_the_method_is_that_of_a_run(project, capsys):
    from cai.cli.judge_test import _subject
    from cai.config import Judge

    method = _subject(str(project / "constitution/mine.yaml"), None, None).method
    assert method.name == Judge().method == "option_logprobs"
    assert method.delimiters == Judge().delimiters
