"""Sets of prompts with names and principles of their own, from the run file to the report."""

import pytest
import yaml
from commands import Lines, cai, content, run

from cai.config import load_config
from cai.constitution.load import find_constitution, load_constitution
from cai.errors import InputError
from cai.files import read_records
from cai.pipeline.preflight import check_run
from cai.pipeline.prompt_sets import revised_sets, with_prompt_sets
from cai.pipeline.rejudge import effects
from cai.records import Preference, Revision, Sample

STYLE = "reference/formal"
GOLD = """
def gold(prompt, answer):
    return {"short": len(answer) < 40}
"""


@pytest.fixture
def styled(project):
    """A project with a set of style prompts, judged by one principle, beside the red-team ones."""
    path = project / "examples/run.yaml"
    config = yaml.safe_load(path.read_text())
    for name, source in (("style", "benign"), ("style_held", "eval_benign")):
        lines = (project / f"examples/{source}.jsonl").read_text().splitlines(keepends=True)
        (project / f"examples/{name}.jsonl").write_text("".join(lines[:3]))
    config["prompts"] = {
        "red_team": "red.jsonl",
        "eval_red_team": "eval_red.jsonl",
        "revised": {
            "style": {"file": "style.jsonl", "held_out": "style_held.jsonl", "principles": [STYLE]}
        },
    }
    (project / "examples/own_gold.py").write_text(GOLD)
    config["evaluate"]["gold"] = "own_gold:gold"
    path.write_text(yaml.safe_dump(config))
    return project


def test_a_set_is_revised_judged_and_measured_by_its_own_principles(styled):
    metrics = run(styled, "judge.principles=2")
    folder = styled / "runs/r"
    revisions = read_records(folder / "revise/records.jsonl", Revision)
    assert {r.sample.prompt.kind for r in revisions} == {"red_team", "style"}
    by_set = {"style": set(), "red_team": set()}
    for revision in revisions:
        by_set[revision.sample.prompt.kind] |= {step.principle for step in revision.steps}
    assert by_set["style"] == {STYLE} and by_set["red_team"] - {STYLE}
    labels = read_records(folder / "judge/records.jsonl", Preference)
    of_style = [p for p in labels if p.comparison.prompt.kind == "style"]
    assert of_style and all(
        {j.principle for j in p.judgments} <= {STYLE, ""} and len(p.judgments) == 1
        for p in of_style
    )
    assert metrics["stages"]["prompts"]["style"] == metrics["stages"]["prompts"]["eval_style"] == 3
    assert set(metrics["policies"]["rl_cai"]["flags"]["short"]) == {"eval_red_team", "eval_style"}
    answers = read_records(folder / "evaluate/records.jsonl", Sample)
    assert {answer.prompt.kind for answer in answers} == {"eval_red_team", "eval_style"}


def test_what_a_set_is_judged_by_remakes_what_was_made_by_it(styled):
    run(styled, until="judge")
    before, _ = content(styled)
    lines = Lines()
    run(styled, "prompts.revised.style.principles=[reference/*]", until="revise", reporter=lines)
    assert lines.done == ["prompts", "revise"]  # the prompts are the same, the answers stay
    assert content(styled)[0]["revise/records.jsonl"] != before["revise/records.jsonl"]


def test_another_constitution_is_tried_with_the_same_sets(styled):
    run(styled, until="judge")
    constitution = load_constitution(styled / "constitution/small.yaml")
    found = effects(styled / "runs/r", constitution)
    assert found.labels and not found.touched_labels and not found.touched_chains


def test_a_principle_that_no_answer_is_judged_by_is_found_before_the_run(styled):
    path = styled / "examples/run.yaml"
    lines = path.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if STYLE in line)  # of the list
    path.write_text(path.read_text().replace(STYLE, "reference/forml"))
    done = cai(styled, "check", "examples/run.yaml", check=False)
    assert done.returncode == 3
    expected = (
        "prompts.revised.style.principles: small uses no "
        "principle that is called 'reference/forml' (did you mean 'reference/formal'?)"
    )
    assert done.stderr.startswith(f"examples/run.yaml:{place}:") and expected in done.stderr


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("prompts.red_team=null", "eval_red_team needs red_team"),
        ("prompts.revised={red_team: {file: a.jsonl}}", "'red_team' is the name of another set"),
        ("prompts.revised={Style: {file: a.jsonl}}", "'Style' must be of the letters a to z"),
        (
            "prompts.revised.style.fil=a.jsonl",
            "there is no setting prompts.revised.style.fil (did you mean",
        ),
        ("prompts.revised.style.file=a.jsonl", "there is no"),
    ],
)
def test_sets_that_cannot_be_used_are_refused(styled, override, problem):
    with pytest.raises(InputError) as caught:
        check_run(styled / "examples/run.yaml", [override])
    assert problem in str(caught.value)


def test_prompts_to_revise_are_enough(styled):
    overrides = ["prompts={revised: {style: {file: style.jsonl}}}"]
    path = styled / "examples/run.yaml"
    config = load_config(path, overrides)
    assert list(revised_sets(config)) == ["style"]
    metrics = run(styled, *overrides, "ppo.num_updates=1")
    assert metrics["stages"]["prompts"] == {
        "style": 3, "eval_style": 0, "in_an_earlier_set": 0, "repeated": {}
    }  # fmt: skip
    assert metrics["notes"] == [
        "no held-out prompts: policies are not compared; set prompts.revised.style.held_out"
    ]


def test_the_principles_of_a_set_change_the_hash_of_the_constitution(styled):
    config = load_config(styled / "examples/run.yaml")
    constitution = load_constitution(
        find_constitution("../constitution/small.yaml", styled / "examples")
    )
    with_sets = with_prompt_sets(constitution, config)
    assert with_sets.hash != constitution.hash
    assert with_sets.without(STYLE).used_for("judge", "style") == {}
    assert set(with_sets.used_for("judge", "eval_style")) == {STYLE}
