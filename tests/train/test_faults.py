"""What may come in broken, and what may break on the way: said, counted, and never in the weights."""

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from toy_data import BAD, GOOD, PROMPTS, preferences

from cai.config import PPO, SFT, PPORollout, Reward
from cai.errors import InputError, RunFailed
from cai.models.load import load_language_model
from cai.models.scalar import load_scalar_model
from cai.train.options import TrainerOptions
from cai.train.ppo import update as ppo_module
from cai.train.ppo.trainer import train_ppo
from cai.train.reward import trainer as reward_module
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft


def finite(folder):
    return all(
        torch.isfinite(tensor).all() for tensor in load_file(folder / "model.safetensors").values()
    )


def test_labels_that_are_all_ties_are_an_error(tiny, tmp_path):
    with pytest.raises(InputError, match="all labels are one half"):
        train_reward(preferences(0.5), tiny, tmp_path / "r", Reward())
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"ACCELERATE_USE_DEEPSPEED": "true"},
            "DeepSpeed is not supported; use DDP, or FSDP version 2",
        ),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP version 1 is not supported"),
        (
            {
                "ACCELERATE_USE_FSDP": "true",
                "FSDP_VERSION": "1",
                "ACCELERATE_USE_MEGATRON_LM": "true",
            },
            "FSDP version 1, Megatron_LM is",
        ),
    ],
)
def test_unsupported_accelerate_launch_is_an_error(tiny, tmp_path, monkeypatch, asked, says):
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=says):
        train_reward(preferences()[:1], tiny, tmp_path / "r", Reward(eval_fraction=0.0))


def test_reward_model_trains_on_one_pair(tiny, tmp_path):
    metrics = train_reward(preferences()[:1], tiny, tmp_path / "r", Reward(eval_fraction=0.0))
    assert metrics["pairs"] == 1 and metrics["eval_pairs"] == 0 and finite(tmp_path / "r")
    measured = {
        "eval_accuracy",
        "longer_is_better",
        "score_length_correlation",
        "calibration_error",
        "format_bias",
        "format_bias_max_flipped",
    }
    assert (
        not measured & set(metrics)
        and "held out accuracy" not in (tmp_path / "r/README.md").read_text()
    )
    scores = score_texts(
        load_scalar_model(str(tmp_path / "r")), [(PROMPTS[0], GOOD), (PROMPTS[0], BAD)]
    )
    assert torch.isfinite(scores).all() and all(math.isfinite(value) for value in metrics.values())


def spoilt(monkeypatch, module, name, when):
    """Let a loss be NaN in some of its calls."""
    real, calls = getattr(module, name), []

    def loss(*arguments):
        calls.append(1)
        found = real(*arguments)
        if not when(len(calls)):
            return found
        return (
            found._replace(loss=found.loss * math.nan)
            if hasattr(found, "_replace")
            else found * math.nan
        )

    monkeypatch.setattr(module, name, loss)


def test_reward_step_with_nan_is_skipped_and_logged(tiny, tmp_path, monkeypatch):
    spoilt(monkeypatch, reward_module, "preference_loss", lambda call: call == 3)
    rows = []
    metrics = train_reward(
        preferences(),
        tiny,
        tmp_path / "r",
        Reward(batch_size=8, eval_fraction=0.0, epochs=2),
        options=TrainerOptions(log=rows.append),
    )
    assert metrics["skipped_steps"] == 1 and [bool(row.get("rows")) for row in rows[:4]] == [
        False,
        False,
        True,
        False,
    ]
    assert len(rows[2]["rows"]) in (4, 8) and "loss" not in rows[2] and finite(tmp_path / "r")


def test_ppo_step_with_nan_is_skipped_with_a_warning(tiny, tmp_path, monkeypatch):
    spoilt(monkeypatch, ppo_module, "policy_loss", lambda call: call == 2)
    rows = []
    config = PPO(
        num_updates=3, epochs=1, learning_rate=1e-3, rollout=PPORollout(batch_size=4, max_tokens=4)
    )
    metrics = train_ppo(
        PROMPTS,
        tiny,
        tmp_path / "p",
        config,
        score=lambda p, a: torch.arange(float(len(a))),
        options=TrainerOptions(log=rows.append),
    )
    assert (
        metrics["skipped_steps"] == 1
        and "a step was skipped" in rows[1]["alarm"]
        and finite(tmp_path / "p")
    )


def test_training_with_only_nan_steps_stops(tiny, tmp_path, monkeypatch):
    spoilt(monkeypatch, reward_module, "preference_loss", lambda call: True)
    with pytest.raises(RunFailed, match="5 consecutive steps") as error:
        train_reward(preferences(), tiny, tmp_path / "r", Reward(batch_size=4, epochs=3))
    assert error.value.exit_code == 5 and not (tmp_path / "r").exists()


def test_pickled_weights_are_not_opened(tiny, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    torch.save({"weight": torch.ones(2)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for opened in (load_language_model, load_scalar_model):
        with pytest.raises(InputError, match="no model could be opened"):
            opened(str(folder))


def test_truncated_checkpoint_is_not_opened(tiny, tmp_path):
    train_sft([(PROMPTS[0], GOOD)], tiny, tmp_path / "out", SFT(epochs=1))
    path = tmp_path / "out/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no model could be opened"):
        load_language_model(str(tmp_path / "out"))
