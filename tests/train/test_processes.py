"""Two processes train what one trains: the same losses, gradients and weights, rows of unequal length and an odd one included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("stages_together.py")
STAGES = ("sft", "reward", "dpo", "ppo")


def run(base, out, distributed=1, tokens=16_384, lora=0, sharded="whole"):
    out.mkdir()
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(distributed)]
        if distributed > 1
        else []
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, *launch, SCRIPT, base, out, str(tokens), str(lora), sharded]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    said = json.loads((out / "said.json").read_text())
    assert said["processes"] == distributed
    return said


def near(one, other, within):
    return one.keys() == other.keys() and all(
        abs(one[name] - other[name]) <= within * (1 + abs(one[name])) for name in one
    )


@pytest.fixture(scope="module")
def standalone(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    return out, run(tiny, out)


def same(standalone, out, said, within=2e-4):
    folder, expected = standalone
    assert len(said["rows"]) == len(expected["rows"]) > 12
    assert all(
        near(a, b, 100 * within) for a, b in zip(expected["rows"], said["rows"], strict=True)
    )
    for stage in STAGES:
        one, other = (load_file(place / stage / "model.safetensors") for place in (folder, out))
        assert one.keys() == other.keys()
        assert all((one[name] - other[name]).abs().max() < within for name in one), stage


def test_two_processes_are_as_one(tiny, tmp_path, standalone):
    said = run(tiny, tmp_path / "out", distributed=2, tokens=60)
    assert said["wrapped"] == ["1", "DistributedDataParallel"]
    same(standalone, tmp_path / "out", said)


def test_two_processes_that_share_the_weights_are_as_one(tiny, tmp_path, standalone):
    said = run(tiny, tmp_path / "out", distributed=2, tokens=60, sharded="sharded")
    assert said["wrapped"] == ["3", "FSDPModule"]  # two layers and the rest
    same(standalone, tmp_path / "out", said)


def test_passes_of_few_tokens_add_up_to_the_batch(tiny, tmp_path, standalone):
    same(standalone, tmp_path / "out", run(tiny, tmp_path / "out", tokens=40))
