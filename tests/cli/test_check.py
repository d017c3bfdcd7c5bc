"""``cai check``: every problem of every kind of file, each once, and how many files there are."""

import os
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from cai.cli.app import app

RUN = "constitution: {constitution}\nprompts: {{red_team: red.jsonl, benign: benign.jsonl}}\n"


def check(*arguments):
    done = CliRunner().invoke(app, ["check", *map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stderr.splitlines(), done.stdout.splitlines()


@pytest.fixture
def project(tmp_path, monkeypatch, root):
    for name in ("principles", "constitution", "examples"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_ends_with_how_many_files_were_checked(project):
    principles = list((project / "principles").rglob("*.yaml"))
    constitutions = [p for p in (project / "constitution").iterdir() if p.name != "README.md"]
    assert check() == (
        0,
        [],
        [f"{len(principles) + len(constitutions)} files checked, no problems"],
    )
    assert check("constitution/general.yaml")[2] == ["2 files checked, no problems"]
    assert check("constitution/letter.md", "principles/harm/crime.yaml")[2] == [
        "2 files checked, no problems"
    ]
    assert check("examples/quickstart.yaml")[2] == ["1 file checked, no problems"]
    assert check("examples/human_feedback.yaml")[2] == ["1 file checked, no problems"]
    (project / "examples/accelerate/odd.yaml").write_text("compute: gpu\n")
    code, _, shown = check("examples/accelerate", "examples/quickstart.yaml")
    assert code == 0 and shown[-1] == "1 file checked, no problems; 3 other YAML files skipped"


def test_a_problem_is_printed_and_counted_once(project):
    (project / "principles/reference/insult.yaml").write_text("title: No: insults\n")
    (project / "constitution/reference.yaml").write_text(
        "title: T\nrevize: {principles: [reference/*]}\n"
    )
    code, problems, shown = check()
    assert code == 3 and problems == [
        "constitution/reference.yaml:2:1: unknown key 'revize' (did you mean 'revise'?)",
        "principles/reference/insult.yaml:1:10: mapping values are not allowed in this context; "
        'put a text that contains ": " in quotes or after "|"',
    ]
    assert shown[-1].endswith("files checked, 2 problems")
    (project / "mine.yaml").write_text("title: a: b\n")
    code, problems, shown = check("mine.yaml")
    assert code == 3 and len(problems) == 1 and shown == ["1 file checked, 1 problem"]


def test_all_problems_of_a_run_file_come_in_one_pass(project):
    (project / "red.jsonl").write_text(
        '{"prompt": "Hi"}\n{"prompt": ""}\n{"text": "Hi"}\n{"prompt": " "}\n'
    )
    (project / "run.yaml").write_text(
        RUN.format(constitution="refrence") + "ppo: {num_updates: many}\nmodels: {critic: ./none}\n"
    )
    code, problems, shown = check("run.yaml")
    assert code == 3
    assert [line.split(":")[:3] for line in problems[:3]] == [
        ["red.jsonl", number, "1"] for number in "234"
    ]
    assert [line.partition("; ")[0] for line in problems[3:]] == [
        "run.yaml:1:1: constitution: refrence: no constitution has this name (did you mean 'reference'?)",
        "run.yaml:2:32: prompts.benign: there is no benign.jsonl",
        "run.yaml:3:7: ppo.num_updates must be a whole number, not 'many'",
        "run.yaml:4:10: models.critic: ./none: there is no folder none",
    ]
    assert shown == ["1 file checked, 7 problems"]


def test_a_constitution_of_a_run_file_is_checked_with_it(project):
    (project / "principles/reference/insult.yaml").write_text("titel: T\n")
    code, problems, _ = check("examples/quickstart.yaml")
    assert (
        code == 3
        and [line.partition(": ")[0] for line in problems]
        == ["principles/reference/insult.yaml:1:1"] * 2
    )


def test_a_training_file_is_checked_to_its_last_row(project):
    (project / "pairs.jsonl").write_text(
        '{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chosen": 3, "rejected": "b"}\n'
    )
    (project / "train.yaml").write_text(
        "out: out\nmodel: a/b/c\ndata: {preferences: [pairs.jsonl, none.jsonl]}\nconstraint: {model: ./old}\nreward_model: http://x/v1#m\n"
    )
    code, problems, _ = check("train.yaml")
    assert code == 3 and [line.partition(": ")[0] for line in problems] == [
        "pairs.jsonl:2:1",
        "train.yaml:2:1",
        "train.yaml:3:35",
        "train.yaml:4:14",
        "train.yaml:5:1",
    ]
    assert problems[1] == "train.yaml:2:1: model: a/b/c: there is no folder a/b/c"
    assert (
        problems[4]
        == "train.yaml:5:1: reward_model: http://x/v1#m is neither a model folder nor a hub id"
    )


def test_a_model_that_is_taken_for_one_on_the_hub_is_named(project):
    (project / "red.jsonl").write_text('{"prompt": "Hi"}\n')
    (project / "run.yaml").write_text(
        RUN.format(constitution="reference").replace("benign.jsonl", "red.jsonl")
        + "models: {critic: out/sft}\n"
    )
    code, problems, shown = check("run.yaml")
    assert (code, problems) == (0, [])
    assert (
        shown[0].startswith("run.yaml: models.critic: out/sft is not a folder here")
        and "--online" in shown[0]
    )
    code, problems, shown = check("run.yaml", "--online")
    assert (
        code == 3 and shown == ["1 file checked, 1 problem"] and os.environ["HF_HUB_OFFLINE"] == "1"
    )
    assert problems[0].startswith(
        "run.yaml:3:10: models.critic: out/sft: there is no folder out/sft; HF_HUB_OFFLINE is set"
    )


def test_check_loads_no_heavy_library(root):
    script = (
        "import sys; from cai.cli.app import app; "
        "app(['check'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not {"torch", "transformers", "datasets", "accelerate", "openai"} & loaded


def test_suites_are_checked(project):
    suites = list((project / "examples/suites").glob("*.yaml"))
    assert check("examples/suites")[2] == [f"{len(suites)} files checked, no problems"]
    suite = (project / "examples/suites/over-refusal.yaml").read_text()
    for change, place, message in (
        (("list: refusal", "list: refusals"), "refusals", "no list of words has this name"),
        (("over-refusal.jsonl", "no.jsonl"), "mine.yaml", "there is no file prompts/no.jsonl"),
        (("better: lower", "better: low"), "mine.yaml:8:1", "better must be one of lower, higher"),
    ):
        (project / "mine.yaml").write_text(suite.replace(*change))
        code, problems, shown = check("mine.yaml")
        assert (code, shown) == (3, ["1 file checked, 1 problem"])
        assert problems[0].startswith(f"{place}: {message}")
