"""What a stage's result depends on, and how a change of it is reported."""

import json
import shutil

import pytest
from commands import opened

from cai.pipeline import provenance
from cai.pipeline.provenance import diff_inputs, fingerprint, stage_inputs
from cai.pipeline.stages import plan_stages


def inputs_of(project, stage, *overrides):
    run = opened(project, *overrides)
    try:
        (planned,) = [s for s in plan_stages(run.config) if s.name == stage]
        return stage_inputs(run, planned)
    finally:
        run.lock.release()


@pytest.mark.parametrize(
    ("stage", "overrides", "expected"),
    [
        ("sample", ["seed=1"], ["seed 0 -> 1"]),
        ("sample", ["sample.max_tokens=30"], ["sample.max_tokens 40 -> 30"]),
        ("sample", ["models.judge=reference"], []),
        ("sft", ["models.judge=reference", "judge.principles=null"], []),
        ("judge", ["judge.principles=null"], ["judge.principles 1 -> null"]),
        ("reward", ["models.chat_format=plain"], ["models.chat_format null -> plain"]),
        ("prompts", ["prompts.eval_limit=2"], ["prompts.eval_limit null -> 2"]),
        ("evaluate", ["algorithms=[ppo]"], ["the output of dpo changed"]),
        ("ppo", ["reward.ensemble.size=3"], ["reward.ensemble.size 1 -> 3"]),
    ],
)
def test_changed_settings_are_named(finished_project, stage, overrides, expected):
    before = inputs_of(finished_project, stage)
    now = inputs_of(finished_project, stage, *overrides)
    assert diff_inputs(before, now) == expected


def test_changed_files_and_models_are_named(finished_project, taught):
    shutil.copytree(taught, finished_project / "examples/model")
    name = "models.initial=model"
    before = inputs_of(finished_project, "sample", name)
    assert diff_inputs(inputs_of(finished_project, "sample"), before) == [
        f"the initial model {taught} -> model"
    ]
    (finished_project / "examples/model/generation_config.json").write_text("{}")
    now = inputs_of(finished_project, "sample", name)
    assert diff_inputs(before, now) == ["the model model changed"]
    before = inputs_of(finished_project, "prompts")
    with (finished_project / "examples/red.jsonl").open("a") as file:
        file.write('{"prompt": "One more."}\n')
    now = inputs_of(finished_project, "prompts")
    assert diff_inputs(before, now) == ["red.jsonl changed"]


@pytest.mark.parametrize("stage", ["sample", "revise", "sft", "judge"])
def test_constitution_and_templates_matter_where_they_are_used(
    finished_project, stage, monkeypatch
):
    before = inputs_of(finished_project, stage)
    path = finished_project / "principles/reference/insult.yaml"
    path.write_text(path.read_text().replace("mean words about a person", "cruel words"))
    edited = inputs_of(finished_project, stage)
    monkeypatch.setattr(provenance, "combined_hash", lambda: "of another version")
    now = inputs_of(finished_project, stage)
    used = stage in ("revise", "judge")
    assert diff_inputs(before, edited) == ["the constitution changed"] * used
    assert diff_inputs(edited, now) == ["the prompt templates changed"] * used


def test_other_versions_of_cai_are_noticed(finished_project, monkeypatch):
    before = inputs_of(finished_project, "sample")
    monkeypatch.setattr(provenance, "FORMAT", 99)
    now = inputs_of(finished_project, "sample")
    assert diff_inputs(before, now) == ["this version of cai does it differently"]
    assert diff_inputs({}, now) == ["an older version of cai wrote it"]


def test_inputs_are_those_of_the_manifest(finished_project):
    manifest = json.loads((finished_project / "runs/r/reward/manifest.json").read_text())
    assert manifest["inputs"] == inputs_of(finished_project, "reward")
    run = opened(finished_project)
    stages = plan_stages(run.config)
    run.lock.release()
    assert len({fingerprint(run, stage) for stage in stages}) == len(stages)
