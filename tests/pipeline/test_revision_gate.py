"""Revisions that are not fit to train on stop a run before anything is trained on them."""

import pytest
from commands import Lines, run

from cai.errors import RunFailed
from cai.files import read_json

COPYIST = """
from cai.backends.scripted import ScriptedBackend

def reply(messages, seed):
    wants_critique = messages[-2].role == "assistant" and len(messages) % 4 == 3
    return "It is harmful." if wants_critique else messages[1].content

def make():
    return ScriptedBackend(reply, None, name="copyist")
"""
SETTINGS = (
    "models.critic=copyist:make",
    "audit.max_unchanged_revisions=0.5",
    "sample.max_tokens=90",
)


@pytest.fixture
def copied(project):
    """A project whose critic returns every draft as it was."""
    (project / "examples/copyist.py").write_text(COPYIST)
    return project


def test_revisions_that_change_nothing_stop_the_run_before_sft(copied):
    with pytest.raises(RunFailed) as caught:
        run(copied, *SETTINGS, "audit.gate=true", until="sft")
    first, second, *_ = str(caught.value).splitlines()
    assert first == "the revisions are not fit to train on:"
    assert second.strip() == (
        "100% of the revised answers are their drafts (max_unchanged_revisions 50%)"
    )
    assert "--set audit.gate=false" in str(caught.value)
    assert not (copied / "runs/r/sft/manifest.json").exists()
    audit = read_json(copied / "runs/r/revise/audit.json")
    assert audit["unchanged"]["value"] == 1 and audit["gate_failures"] == [second.strip()]


def test_without_the_gate_the_audit_is_in_the_metrics(copied):
    lines = Lines()
    metrics = run(copied, *SETTINGS, until="revise", reporter=lines)
    reason = "100% of the revised answers are their drafts (max_unchanged_revisions 50%)"
    assert metrics["stages"]["revise"]["not_fit"] == [reason]
    assert f"revise: not fit to train on: {reason}" in lines.lines
    audit = metrics["stages"]["revise"]["audit"]
    assert audit["unchanged"]["value"] == 1 and audit["unchanged"]["n"] == 8
    assert audit["invalid"]["value"] == 0 and audit["length_ratio"] == 1
