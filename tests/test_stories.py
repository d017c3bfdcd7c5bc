"""A real base model, trained by others and without a chat template: PPO makes it tell of dogs, and it still tells stories.

Needs the folder of a small story model in ``CAI_STORY_MODEL``; skipped, and said so, where there is none.
"""

import os
import subprocess
import sys

import pytest

from cai.files import read_json

MODEL = os.environ.get("CAI_STORY_MODEL", "")


@pytest.mark.skipif(not MODEL, reason="CAI_STORY_MODEL names no folder of a story model")
def test_dog_stories(root, tmp_path):
    command = [
        sys.executable,
        "-m",
        "cai",
        "run",
        "examples/stories.yaml",
        "--run",
        str(tmp_path / "stories"),
        "--set",
        f"models.initial={MODEL}",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    policies = read_json(tmp_path / "stories/metrics.json")["policies"]
    before, after = policies["sl_cai"], policies["rl_cai"]
    dogs = {name: policies[name]["dog_rate"] for name in ("sl_cai", "rl_cai")}
    assert dogs["rl_cai"] >= dogs["sl_cai"] + 0.3
    assert after["kl_from_sl_cai"] < 25
    assert after["nats_per_token_under_initial"] < before["nats_per_token_under_initial"] + 0.5
