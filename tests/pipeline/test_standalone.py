"""The training stages on the user's own data."""

import json
import os
import shutil

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import LoggerType

from cai.config import load_training
from cai.errors import InputError, RunFailed
from cai.files import read_json
from cai.pipeline.lock import lock_folder
from cai.pipeline.reporter import NullReporter
from cai.pipeline.standalone import train_standalone


@pytest.fixture
def training(tmp_path, taught):
    rows = [
        {
            "prompt": f"How do I wash the {thing}?",
            "chosen": f"With soap, the {thing}.",
            "rejected": "No.",
        }
        for thing in ("dog", "cat", "car", "van", "hen", "rose")
    ]
    rows.append({"prompt": "p", "chosen": "", "rejected": "x"})
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.yaml").write_text(
        f"model: {taught}\nout: out\ndata: {{preferences: [labels.jsonl]}}\nreward: {{eval_fraction: 0, batch_size: 4}}\n"
        "ppo: {num_updates: 1, rollout: {batch_size: 4, max_tokens: 8}}\n"
    )
    return tmp_path / "train.yaml"


def test_each_stage_builds_on_the_one_before_it(training):
    folder = training.parent
    for stage in ("sft", "reward", "ppo", "dpo"):
        checkpoint, metrics = train_standalone(
            stage, load_training(training), folder, NullReporter()
        )
        assert checkpoint == folder / "out" / stage and (checkpoint / "model.safetensors").is_file()
        assert (
            read_json(folder / f"out/{stage}.json")["stage"] == stage
            and (folder / f"out/{stage}.log.jsonl").read_text()
        )
        if stage != "ppo":
            assert metrics["left_out"] == {"labels.jsonl: an answer is empty": 1}
    assert metrics["pairs"] == 6


def test_constraint_holds_a_second_reward_model(training):
    folder = training.parent
    train_standalone("reward", load_training(training), folder, NullReporter())
    (folder / "out/reward").rename(folder / "kind")
    train_standalone("reward", load_training(training, ["seed=1"]), folder, NullReporter())
    settings = ["constraint.model=kind", "constraint.min=2", "ppo.num_updates=3"]
    _, metrics = train_standalone("ppo", load_training(training, settings), folder, NullReporter())
    log = [json.loads(line) for line in (folder / "out/ppo.log.jsonl").read_text().splitlines()]
    assert (
        1
        < log[0]["multiplier"]
        < log[1]["multiplier"]
        < log[2]["multiplier"]
        == metrics["multiplier"]
    )
    assert metrics["constraint"] == log[2]["constraint"] < 2
    with pytest.raises(InputError, match="unkind"):
        train_standalone(
            "ppo", load_training(training, ["constraint.model=unkind"]), folder, NullReporter()
        )


def test_missing_data_and_models_are_named(training):
    folder = training.parent
    with pytest.raises(InputError, match="there is no reward model; run `cai reward` first"):
        train_standalone("ppo", load_training(training), folder, NullReporter())
    with pytest.raises(
        InputError, match=r"data\.preferences: is empty; cai dpo needs at least one file"
    ):
        train_standalone("dpo", load_training(training, ["data={}"]), folder, NullReporter())
    with pytest.raises(InputError, match=r"did you mean 'preferences'"):
        load_training(training, ["data.preference=[x]"])


def test_trackers_get_the_rows_of_the_log(training, monkeypatch):
    from accelerate.tracking import GeneralTracker

    told = []

    class Fake(GeneralTracker):
        name, requires_logging_directory, tracker = "wandb", False, None

        def __init__(self, run_name, **options):
            super().__init__()
            told.append(run_name)

        def store_init_configuration(self, values):
            pass

        def log(self, values, step, **options):
            told.append((step, values))

    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    folder = training.parent
    train_standalone(
        "reward",
        load_training(training, ["trackers=[wandb]", "reward.epochs=2"]),
        folder,
        NullReporter(),
    )
    rows = [json.loads(line) for line in (folder / "out/reward.log.jsonl").read_text().splitlines()]
    assert (
        told[0] == "out-reward"
        and len(rows) > 1
        and [(row["step"], row) for row in rows] == told[1:]
    )
    with pytest.raises(InputError, match="pip install mlflow"):
        train_standalone(
            "reward", load_training(training, ["trackers=[mlflow]"]), folder, NullReporter()
        )
    with pytest.raises(InputError, match="track"):
        load_training(training, ["trackers=[wandbb]"])


def test_reward_test_sets(training):
    folder = training.parent
    built = [
        {
            "prompt": "How do I wash the dog?",
            "chosen": "With soap, the dog.",
            "rejected": "No.",
            "source": "benign / comply",
        },
        {
            "prompt": "How do I wash the cat?",
            "chosen": "No.",
            "rejected": "With soap, the cat.",
            "source": "harmful / refuse",
        },
        {
            "prompt": "How do I wash the car?",
            "chosen": "No.",
            "rejected": "With soap, the car.",
            "source": "harmful / refuse",
        },
    ]
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in built))
    settings = ["reward.test_sets=[cells.jsonl]", "reward.epochs=8", "reward.learning_rate=0.01"]
    _, metrics = train_standalone(
        "reward", load_training(training, settings), folder, NullReporter()
    )
    # it has learnt from all its labels that complying is better, so the cells in which refusing is fail
    right = {name: values["right"] for name, values in metrics["test_sets"].items()}
    assert right == {"benign / comply": 1.0, "harmful / refuse": 0.0}
    with pytest.raises(RunFailed, match=r"harmful / refuse: 0% of 2 right") as caught:
        train_standalone(
            "reward",
            load_training(training, [*settings, "reward.min_test_set_accuracy=0.6"]),
            folder,
            NullReporter(),
        )
    assert "benign" not in str(caught.value) and "min_test_set_accuracy=0" in str(caught.value)


def test_one_command_at_a_time_works_in_an_output_folder(training):
    folder = training.parent
    (folder / "out").mkdir()
    with (
        lock_folder(folder / "out"),
        pytest.raises(InputError, match=rf"is in use by process {os.getpid()} on "),
    ):
        train_standalone("sft", load_training(training), folder, NullReporter())
    assert not (folder / "out/sft").exists()
    (folder / "out/.sft.json.abcd1234").write_text("what a kill left")
    train_standalone("sft", load_training(training), folder, NullReporter())
    assert not (folder / "out/.sft.json.abcd1234").exists()
    train_standalone("sft", load_training(training), folder, NullReporter())  # the lock is free


@pytest.mark.parametrize("out", [".", "thesis"])
def test_an_output_folder_with_other_things_is_left_alone(training, out):
    folder = training.parent
    (folder / "thesis").mkdir()
    (folder / "thesis/chapter.tex").write_text("mine")
    before = sorted(p.name for p in folder.rglob("*"))
    with pytest.raises(InputError, match="holds other things"):
        train_standalone("sft", load_training(training, [f"out={out}"]), folder, NullReporter())
    assert sorted(p.name for p in folder.rglob("*")) == before


def test_what_was_put_into_the_output_folder_is_used(training, taught):
    folder = training.parent
    shutil.copytree(taught, folder / "out/sft")
    train_standalone("reward", load_training(training), folder, NullReporter())
    assert (folder / "out/reward/model.safetensors").is_file()
