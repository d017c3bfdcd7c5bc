"""What a run would want hours later and is not there is said before it starts."""

import pytest
import yaml
from commands import cai

WANTED = {
    "prompts": {"red_team": "none.jsonl", "benign": "prompts/few.jsonl", "held_benign": "prompts/few.jsonl#prompt"},
    "reward": {"human": ["prompts/few.jsonl", "people.jsonl"], "cells": ["cells.jsonl"]},
    "guard": {"model": "old/reward"},
    "models": {"critic": "./nowhere"},
    "evaluate": {"gold": "my_gold:read"},
}


@pytest.fixture
def named(project):
    (project / "prompts").mkdir()
    (project / "prompts/few.jsonl").write_text('{"prompt": "Hello."}\n')
    (project / "named.yaml").write_text("constitution: reference\n" + yaml.safe_dump(WANTED, sort_keys=False))
    return project


def test_all_that_is_missing_is_said_at_once_and_nothing_is_begun(named):
    done = cai(named, "run", "named.yaml", "--run", "runs/r", check=False)
    assert done.returncode == 3 and not (named / "runs/r").exists()
    assert done.stderr.splitlines() == [
        "named.yaml:3:3: prompts.red_team: there is no none.jsonl",
        "named.yaml:9:5: reward.human: there is no people.jsonl",
        "named.yaml:11:5: reward.cells: there is no cells.jsonl",
        "named.yaml:13:3: guard.model: there is no old/reward",
        "named.yaml:15:3: models.critic: there is no folder ./nowhere",
        "named.yaml:17:3: evaluate.gold: my_gold:read: names no function: No module named 'my_gold'",
    ]
    checked = cai(named, "check", "named.yaml", check=False)
    assert checked.returncode == 3 and checked.stderr == done.stderr


def test_what_only_later_stages_read_may_still_be_missing(named):
    settings = ["prompts.red_team=prompts/few.jsonl", "models.critic=reference", "evaluate.gold=''"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert cai(named, "run", "named.yaml", *arguments, "--run", "runs/r", "--until", "prompts").returncode == 0
    later = cai(named, "run", "named.yaml", *arguments, "--run", "runs/r", "--until", "reward", check=False)
    assert later.returncode == 3 and "people.jsonl" in later.stderr and "old/reward" not in later.stderr
