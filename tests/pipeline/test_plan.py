"""The plan of a run: which stages, in which order, and what each of them reads."""

import pytest

from cai.config import RunConfig
from cai.pipeline.layout import iteration_folders
from cai.pipeline.stage import StageContext, StageRef
from cai.pipeline.stages import STAGES, plan_stages


def config(**settings):
    prompts = {"red_team": "a.jsonl", "benign": "b.jsonl"}
    return RunConfig(constitution="reference", prompts=prompts, **settings)


def plan_of(**settings):
    return {stage.name: stage for stage in plan_stages(config(**settings))}


def test_plan_of_one_iteration():
    plan = plan_of(algorithms=("ppo", "dpo"))
    assert list(plan) == [stage.name for stage in STAGES]
    assert plan["compare"].inputs == {"prompts": ("prompts",), "sft": ("sft",), "ppo": ()}
    assert plan["reward"].input_names == ("judge", "sft")


def test_plan_of_three_iterations():
    plan = plan_of(iterations=3)
    iterated = ["compare", "judge", "audit", "reward", "ppo"]
    before = ["prompts", "sample", "revise", "sft", "control"]
    assert list(plan) == [
        *before,
        *iterated,
        *(f"{name}-2" for name in iterated),
        *(f"{name}-3" for name in iterated),
        "evaluate",
    ]
    assert plan["compare-3"].inputs["ppo"] == ("ppo-2",)
    assert plan["judge-3"].inputs == {"compare": ("compare-3",)}
    assert plan["reward-3"].inputs["judge"] == ("judge", "judge-2", "judge-3")
    assert plan["ppo-3"].inputs["reward"] == ("reward-3",)
    assert plan["evaluate"].inputs["ppo"] == ("ppo", "ppo-2", "ppo-3")
    assert plan["evaluate"].inputs["reward"] == ("reward-3",)


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        ({"algorithms": ()}, {"ppo", "dpo"}),
        ({"algorithms": ("dpo",)}, {"ppo"}),
        ({"algorithms": ("ppo",)}, {"dpo"}),
        ({"algorithms": ("ppo", "dpo"), "sft": {"control": False}}, {"control"}),
    ],
)
def test_stages_that_are_not_wanted_are_left_out(settings, left_out):
    plan = plan_of(**settings)
    assert {stage.name for stage in STAGES} - set(plan) == left_out
    assert not left_out & set(plan["evaluate"].inputs)


def test_every_input_is_done_before_it_is_read():
    plan = plan_of(iterations=3, algorithms=("ppo", "dpo"))
    done = set()
    for name, stage in plan.items():
        assert set(stage.input_names) <= done
        done.add(name)


def test_settings_of_stages_exist():
    values = config().model_dump()
    for stage in STAGES:
        for name in stage.settings:
            section, _, key = name.partition(".")
            assert not key or key in values[section], name
            assert section in values, name


def test_references_name_folders():
    assert StageRef("judge", "all").folders(2, iterated=True) == ("judge", "judge-2")
    assert StageRef("ppo", "previous").folders(1, iterated=True) == ()
    assert StageRef("ppo", "previous").folders(3, iterated=True) == ("ppo-2",)
    assert StageRef("sft").folders(3, iterated=False) == ("sft",)


def test_a_stage_cannot_read_what_it_does_not_declare():
    context = StageContext(run=None, planned=plan_of()["judge"])
    with pytest.raises(AssertionError, match="sample is not declared"):
        context.input_folders("sample")


def test_iteration_folders_of_a_run_on_disk(tmp_path):
    (tmp_path / "config.yaml").write_text("iterations: 2\n")
    assert [p.name for p in iteration_folders(tmp_path, "judge")] == ["judge", "judge-2"]
