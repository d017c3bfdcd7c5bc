"""Two processes train what one trains: the same losses, gradients and weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("train_all_stages.py")
STAGES = ("sft", "reward", "dpo", "ppo")


def run(base, out, processes=1, max_tokens=16_384, lora_rank=0, sharding="whole"):
    """Run all stages and return what they report."""
    out.mkdir()
    launcher = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc_per_node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    arguments = [base, out, str(max_tokens), str(lora_rank), sharding]
    command = [sys.executable, *launcher, SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    report = json.loads((out / "report.json").read_text())
    assert report["processes"] == processes
    return report


@pytest.fixture(scope="module")
def one_process(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "out"
    return out, run(tiny, out)


def near(a, b, tolerance):
    return a.keys() == b.keys() and all(
        abs(a[name] - b[name]) <= tolerance * (1 + abs(a[name])) for name in a
    )


def assert_same(one_process, out, report, tolerance=2e-4):
    folder, expected = one_process
    assert len(report["rows"]) == len(expected["rows"]) > 12
    for a, b in zip(expected["rows"], report["rows"], strict=True):
        assert near(a, b, 100 * tolerance)
    for stage in STAGES:
        a, b = (load_file(place / stage / "model.safetensors") for place in (folder, out))
        assert a.keys() == b.keys()
        for name in a:
            assert (a[name] - b[name]).abs().max() < tolerance, f"{stage}: {name}"


def test_ddp_matches_one_process(tiny, tmp_path, one_process):
    report = run(tiny, tmp_path / "out", processes=2, max_tokens=60)
    assert report["wrappers"] == ["1", "DistributedDataParallel"]
    assert_same(one_process, tmp_path / "out", report)


def test_fsdp_matches_one_process(tiny, tmp_path, one_process):
    report = run(tiny, tmp_path / "out", processes=2, max_tokens=60, sharding="sharded")
    assert report["wrappers"] == ["3", "FSDPModule"]  # two layers and the rest
    assert_same(one_process, tmp_path / "out", report)


def test_gradient_accumulation_matches_the_full_batch(tiny, tmp_path, one_process):
    report = run(tiny, tmp_path / "out", max_tokens=40)
    assert_same(one_process, tmp_path / "out", report)
