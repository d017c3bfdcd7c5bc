"""The end of a run: short tables, what moved, an example, and where the policy is."""

import io

import pytest
from rich.console import Console

from cai.backends.budget import Usage
from cai.cli.summary import (
    before_and_after,
    movement,
    policy_table,
    short_results,
    stage_table,
    trained_policy,
)
from cai.files import write_records
from cai.records import Prompt, Provenance, Revision, Sample, Step


def printed(table):
    screen = io.StringIO()
    Console(file=screen, width=80).print(table)
    return [line.split() for line in screen.getvalue().splitlines()]


def test_stage_table_leaves_out_columns_of_zeros():
    metrics = {"seconds": {"sft": 12.3, "ppo": 70}, "stages": {"sft": {"rows": 84, "left_out": 0}}}
    assert printed(stage_table(metrics, {}, ["sft", "ppo"])) == [
        ["stage", "seconds", "results"],
        ["sft", "12", "rows", "84"],
        ["ppo", "70"],
    ]
    usage = {"ppo": Usage(requests=1200)}
    assert printed(stage_table(metrics, usage, ["ppo"])) == [
        ["stage", "requests", "seconds"],
        ["ppo", "1,200", "70"],
    ]


def test_stage_table_fits_80_columns():
    name = "evaluate"
    metrics = {"seconds": {name: 99_999.0}, "stages": {name: {f"metric_{i}": 1 for i in range(30)}}}
    usage = {name: Usage(requests=10**8, cached=10**8)}
    assert len(printed(stage_table(metrics, usage, [name]))) == 2


def test_results_that_do_not_fit_are_left_out_whole():
    assert short_results({"rows": 1200, "loss": 0.12345, "skipped": 0}, 20) == "rows 1,200"
    assert short_results({"rows": 1200, "loss": 0.12345, "skipped": 0}, 30) == (
        "rows 1,200, loss 0.123"
    )


def test_policy_table_has_no_empty_column_and_no_negative_zero():
    policies = {"initial": {"reward": -0.001}, "sl_cai": {"reward": 0.5, "kl_from_initial": -0.01}}
    assert printed(policy_table({"policies": policies})) == [
        ["policy", "reward", "KL"],
        ["initial", "0.00"],
        ["sl_cai", "0.50", "0.0"],
    ]


def policy(harmful, slang):
    return {
        "harmful_rate": harmful,
        "helpful_rate": 1.0,
        "attributes": {"slang": {"benign": slang}},
    }


def test_movement_names_what_moved_by_5_points():
    before = {
        "constitution": {"hash": "abc"},
        "policies": {"rl_cai": policy(0.5, 0.4), "sl_cai": policy(0.5, 0.4)},
    }
    after = {
        "constitution": {"hash": "def"},
        "policies": {"rl_cai": policy(0.1, 0.4), "sl_cai": policy(0.52, 0.1), "new": policy(0, 0)},
    }
    assert movement(before, after) == [
        "since the constitution abc:",
        "rl_cai moved: harmful 50% -> 10%",
        "sl_cai moved: slang (benign) 40% -> 10%",
    ]
    assert movement({}, after) == []
    assert movement(before, before) == []


def answer(text, kind="eval_red_team", status="ok"):
    provenance = Provenance(model="m", seed=0, temperature=1, max_tokens=9)
    prompt = Prompt.of("Insult me.", kind)
    return Sample(id=text, prompt=prompt, response=text, status=status, provenance=provenance)


@pytest.fixture
def folder(tmp_path):
    rows = [answer("same"), answer("cut", status="truncated"), answer("rude"), answer("first")]
    polite = [answer("same"), answer("whole"), answer("polite"), answer("second")]
    sl_cai = [answer(f"sl {i}") for i in range(4)]
    write_records(tmp_path / "evaluate/records.jsonl", [*rows, *sl_cai, *polite])
    return tmp_path


def test_before_and_after_is_the_first_changed_answer(folder):
    example = before_and_after(folder, ["initial", "sl_cai", "rl_cai"])
    assert (example.before, example.after) == ("rude", "polite")


def test_before_and_after_without_policies_is_a_revision(tmp_path):
    step = Step(principle="p", principle_hash="0", critique="c", revision="polite", unchanged=False)
    draft = answer("rude", "red_team")
    write_records(
        tmp_path / "revise/records.jsonl", [Revision(id="r", sample=draft, steps=(step,))]
    )
    assert before_and_after(tmp_path, []) == ("Insult me.", "rude", "polite")
    assert before_and_after(tmp_path / "none", []) is None


def test_the_last_trained_policy_is_named(tmp_path):
    stages = ["sft", "ppo", "ppo-2", "dpo"]
    assert trained_policy(tmp_path, stages) is None
    for name in ("sft", "dpo", "ppo", "ppo-2"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
    assert trained_policy(tmp_path, stages) == ("rl_cai", tmp_path / "ppo-2/checkpoint")
    assert trained_policy(tmp_path, ["sft"]) == ("sl_cai", tmp_path / "sft/checkpoint")
