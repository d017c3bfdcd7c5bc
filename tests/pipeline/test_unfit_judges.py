"""A judge that is not fit to judge stops the run early; without the gate it is shown everywhere."""

import pytest
from commands import Lines, run

from cai.errors import RunFailed
from cai.files import read_json

EVASIVE = """
import math
from cai.backends.scripted import ScriptedBackend

def score(messages, options):
    return [math.log(0.07 * share) for share in (0.9, 0.1)]

def make():
    return ScriptedBackend(None, score, name="evasive")
"""
SETTINGS = ("models.judge=evasive:make", "judge.method=option_logprobs")
REASON = "the judge puts 7% of its probability on the options"


@pytest.fixture
def evasive_project(judged_project):
    (judged_project / "examples/evasive.py").write_text(EVASIVE)
    return judged_project


def test_the_first_labels_stop_a_judge_that_answers_something_else(
    begun, evasive_project, monkeypatch
):
    monkeypatch.setattr("cai.pipeline.feedback.FIRST_LABELS", 5)
    with pytest.raises(RunFailed) as caught:
        run(evasive_project, *SETTINGS, "audit.gate=true", until="judge")
    first, remedy = str(caught.value).splitlines()
    assert first.startswith(f"the first 5 labels are not fit to train on: {REASON}")
    assert "judge.method" in remedy and "--set audit.gate=false" in remedy
    metrics = read_json(evasive_project / "runs/r/metrics.json")
    assert 0 < metrics["cache"]["by_stage"]["judge"]["requests"] <= 5 * 2, "no more were asked"


def test_without_the_gate_the_reasons_are_shown(evasive_project):
    lines = Lines()
    run(evasive_project, *SETTINGS, until="audit", reporter=lines)
    assert any(line.startswith(f"audit: not fit to train on: {REASON}") for line in lines.lines)
    stage = read_json(evasive_project / "runs/r/metrics.json")["stages"]["audit"]
    assert stage["gate_failures"] == len(stage["not_fit"]) > 0
    assert stage["option_mass"] == pytest.approx(0.07)
    assert any(REASON in reason for reason in stage["not_fit"])


def test_a_model_trained_on_unfit_labels_says_so(judged_project):
    run(judged_project, "audit.max_near_ties=0", until="reward")
    reasons = read_json(judged_project / "runs/r/audit/audit.json")["gate_failures"]
    card = (judged_project / "runs/r/reward/checkpoint/README.md").read_text()
    assert reasons and all(f"- audit: {reason}\n" in card for reason in reasons)
    assert "not fit" not in (judged_project / "runs/r/sft/checkpoint/README.md").read_text()
