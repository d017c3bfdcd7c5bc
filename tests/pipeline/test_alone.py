"""The training stages on the user's own data."""

import json

import pytest

from cai.config import load_training
from cai.errors import InputError
from cai.files import read_json
from cai.pipeline.alone import train_alone
from cai.pipeline.run import Silent


@pytest.fixture
def training(tmp_path, taught):
    rows = [
        {"prompt": f"How do I wash the {thing}?", "chosen": f"With soap, the {thing}.", "rejected": "No."}
        for thing in ("dog", "cat", "car", "van", "hen", "rose")
    ]
    rows.append({"prompt": "p", "chosen": "", "rejected": "x"})
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.yaml").write_text(
        f"model: {taught}\nout: out\ndata: {{preferences: [labels.jsonl]}}\nreward: {{held_out: 0, batch_size: 4}}\n"
        "ppo: {updates: 1, batch_size: 4, max_tokens: 8}\n"
    )
    return tmp_path / "train.yaml"


def test_each_stage_builds_on_the_one_before_it(training):
    folder = training.parent
    for stage in ("sft", "reward", "ppo", "dpo"):
        checkpoint, metrics = train_alone(stage, load_training(training), folder, Silent())
        assert checkpoint == folder / "out" / stage and (checkpoint / "model.safetensors").is_file()
        assert read_json(folder / f"out/{stage}.json")["stage"] == stage and (folder / f"out/{stage}.log.jsonl").read_text()
        if stage != "ppo":
            assert metrics["left_out"] == {"labels.jsonl: an answer is empty": 1}
    assert metrics["pairs"] == 6


def test_what_is_missing_is_said(training):
    folder = training.parent
    with pytest.raises(InputError, match="holds no reward model; do cai reward first"):
        train_alone("ppo", load_training(training), folder, Silent())
    with pytest.raises(InputError, match=r"data\.preferences: names no file, and cai dpo needs one"):
        train_alone("dpo", load_training(training, ["data={}"]), folder, Silent())
    with pytest.raises(InputError, match=r"did you mean 'preferences'"):
        load_training(training, ["data.preference=[x]"])
