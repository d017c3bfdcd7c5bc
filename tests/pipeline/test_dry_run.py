"""The dry run counts the requests that the stages make."""

import pytest
import yaml
from commands import run

from cai.config import load_config
from cai.constitution.load import find_constitution, load_constitution
from cai.feedback.judge import is_empty_answer
from cai.files import read_records
from cai.pipeline.estimate import costs, estimate
from cai.records import Comparison

SCRIPTED = """
from cai.backends.scripted import ScriptedBackend

def make():
    return ScriptedBackend(
        lambda messages, seed: f"A revision of its own: {seed}.",
        lambda messages, options: [0.7 - 0.1 * i for i in range(len(options))],
        name="always whole",
    )
"""
SETTINGS = (
    "models.critic=always_whole:make",
    "models.judge=always_whole:make",
    "judge.method=option_logprobs",
    "judge.principles=3",
    "compare.samples=2",
    "compare.initial_samples=1",
    "compare.pairs_per_prompt=3",
    "monitor.eval_every=1",
    "monitor.judge=true",
    "monitor.eval_prompts=4",
    "ppo.reward_source=judge",
    "max_failed=1.0",
)


def dry_costs(project, *overrides):
    path = project / "examples/run.yaml"
    config = load_config(path, overrides)
    constitution = load_constitution(find_constitution(config.constitution, path.parent))
    return {cost.stage: cost for cost in costs(config, constitution, path.parent)}


def test_stages_make_as_many_requests_as_the_dry_run_counts(project):
    (project / "examples/always_whole.py").write_text(SCRIPTED)
    (project / "examples/benign.jsonl").write_text(
        (project / "examples/benign.jsonl").read_text()
        + (project / "examples/red.jsonl").read_text()  # repeated prompts are not asked twice
    )
    expected = dry_costs(project, *SETTINGS)
    metrics = run(project, *SETTINGS)
    asked = {
        name: usage["requests"] + usage["cached"]
        for name, usage in metrics["cache"]["by_stage"].items()
    }
    assert set(asked) == set(expected)
    for name in ("sample", "revise", "compare"):
        assert asked[name] == expected[name].requests, name
    pairs = read_records(project / "runs/r/compare/records.jsonl", Comparison)
    # an empty answer loses without a request
    judged = [pair for pair in pairs if not any(map(is_empty_answer, (pair.first, pair.second)))]
    assert asked["judge"] == len(judged) * 3 * 2  # three principles, two orders
    assert 0 < len(judged) <= 14 * 3 and asked["judge"] <= expected["judge"].requests
    # the audit is no dearer than what it checks, which are fewer pairs than at most
    assert 0 < asked["audit"] <= min(expected["audit"].requests, asked["judge"])
    policies = len(metrics["policies"])
    answers, rivals = policies * 6, policies - 1
    assert answers < asked["evaluate"] <= expected["evaluate"].requests
    assert expected["evaluate"].requests == answers + rivals * 6 * 2 * 2
    # an empty answer is rated without a request
    assert 0 < asked["ppo"] <= expected["ppo"].requests
    assert expected["ppo"].requests == (2 * 4 + 2 * (1 + 2) * 4) * 3


@pytest.mark.parametrize(
    ("overrides", "stage", "requests"),
    [
        ([], "sample", 14),
        ([], "revise", 8 * 2 * 2),
        (["revise.direct=true"], "revise", 8 * 2),
        ([], "compare", 28),
        (["compare.samples=3", "compare.pairs_per_prompt=9"], "judge", 14 * 3 * 2),
        (["judge.method=option_logprobs", "judge.swap_positions=false"], "judge", 14),
        (["judge.method=sampled_votes", "judge.samples=5"], "judge", 14 * 2 * 5),
        (["judge.principles=null"], "judge", 14 * 17 * 2),
        (["judge.principles=4", "judge.combine=together"], "judge", 14 * 2),
        (["iterations=2", "algorithms=[ppo]"], "judge-2", 28),
    ],
)
def test_number_of_requests(project, overrides, stage, requests):
    assert dry_costs(project, *overrides)[stage].requests == requests


def test_dry_run_needs_no_model(project):
    path = project / "examples/run.yaml"
    config = yaml.safe_load(path.read_text()) | {"models": {"initial": "/no/such/model"}}
    path.write_text(yaml.safe_dump(config))
    assert "ppo" not in dry_costs(project)  # the reward model is not asked by requests
    constitution = load_constitution(project / "constitution/small.yaml")
    table = estimate(load_config(path), constitution, path.parent).splitlines()
    rows = {line.split()[0]: line.split()[1] for line in table}
    assert rows["sample"] == "14" and rows["evaluate"] == "126"
    assert not (project / "runs").exists()


@pytest.mark.parametrize("method", ["option_logprobs", "critique", "sampled_votes"])
def test_the_audit_is_in_the_dry_run_and_no_dearer_than_the_labels(project, method):
    few = dry_costs(project, f"judge.method={method}")
    assert 0 < few["audit"].requests <= few["judge"].requests
    many = dry_costs(project, f"judge.method={method}", "judge.principles=null")
    assert few["audit"].requests < many["audit"].requests < many["judge"].requests
    none = dry_costs(project, "judge.method=option_logprobs", "audit.examples=false")
    assert "audit" not in none


def test_models_that_may_reason_are_counted_with_their_reasoning(project):
    plain = dry_costs(project, "judge.method=sampled_votes")
    thinking = ("models.enable_thinking=true", "models.reasoning_tokens=1000")
    costs_of = dry_costs(project, "judge.method=sampled_votes", *thinking)
    for stage in ("revise", "judge"):
        more = costs_of[stage].tokens_out - plain[stage].tokens_out
        assert more == 1000 * plain[stage].requests > 0
    assert costs_of["sample"] == plain["sample"]  # a policy answers at once
