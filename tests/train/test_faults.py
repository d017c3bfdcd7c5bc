"""Broken inputs and failing steps: reported, counted, and never in the weights."""

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


def all_weights_are_finite(folder):
    weights = load_file(folder / "model.safetensors")
    return all(torch.isfinite(weight).all() for weight in weights.values())


def test_labels_that_are_all_ties_are_an_error(tiny, tmp_path):
    with pytest.raises(InputError, match="all labels are one half"):
        train_reward(preferences(0.5), tiny, tmp_path / "r", Reward())
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        (["DEEPSPEED"], "DeepSpeed is not supported; use DDP, or FSDP version 2"),
        (["FSDP"], "FSDP version 1 is not supported"),
        (["FSDP", "MEGATRON_LM"], "FSDP version 1, Megatron_LM is"),
    ],
)
def test_unsupported_accelerate_launch_is_an_error(tiny, tmp_path, monkeypatch, plugins, message):
    for plugin in plugins:
        monkeypatch.setenv(f"ACCELERATE_USE_{plugin}", "true")
    with pytest.raises(InputError, match=message):
        train_reward(preferences()[:1], tiny, tmp_path / "r", Reward(eval_fraction=0.0))


def test_reward_model_trains_on_one_pair(tiny, tmp_path):
    metrics = train_reward(preferences()[:1], tiny, tmp_path, Reward(eval_fraction=0.0))
    assert metrics["pairs"] == 1
    assert metrics["eval_pairs"] == 0
    measured_on_eval_pairs = {
        "eval_accuracy",
        "longer_is_better",
        "score_length_correlation",
        "calibration_error",
        "format_bias",
        "format_bias_max_flipped",
    }
    assert not measured_on_eval_pairs & set(metrics)
    assert "eval accuracy" not in (tmp_path / "README.md").read_text()
    assert all(math.isfinite(value) for value in metrics.values())
    assert all_weights_are_finite(tmp_path)
    scalar = load_scalar_model(str(tmp_path))
    assert score_texts(scalar, [(PROMPTS[0], GOOD), (PROMPTS[0], BAD)]).isfinite().all()


def return_nan(monkeypatch, module, name, when):
    """Make a loss function of a module return NaN in those of its calls that are chosen."""
    original = getattr(module, name)
    calls = []

    def loss(*arguments):
        calls.append(arguments)
        result = original(*arguments)
        if not when(len(calls)):
            return result
        if isinstance(result, torch.Tensor):
            return result * math.nan
        return result._replace(loss=result.loss * math.nan)

    monkeypatch.setattr(module, name, loss)


def test_reward_step_with_nan_is_skipped_and_logged(tiny, tmp_path, monkeypatch):
    return_nan(monkeypatch, reward_module, "preference_loss", lambda call: call == 3)
    rows = []
    config = Reward(batch_size=8, eval_fraction=0.0, epochs=2)
    options = TrainerOptions(log=rows.append)
    metrics = train_reward(preferences(), tiny, tmp_path, config, options=options)
    assert metrics["skipped_steps"] == 1
    assert [step for step, row in enumerate(rows) if "rows" in row] == [2]
    assert len(rows[2]["rows"]) in (4, 8)
    assert "loss" not in rows[2]
    assert all_weights_are_finite(tmp_path)


def test_ppo_step_with_nan_is_skipped_with_a_warning(tiny, tmp_path, monkeypatch):
    return_nan(monkeypatch, ppo_module, "policy_loss", lambda call: call == 2)
    rows = []
    rollout = PPORollout(batch_size=4, max_tokens=4)
    metrics = train_ppo(
        PROMPTS,
        tiny,
        tmp_path,
        PPO(num_updates=3, epochs=1, learning_rate=1e-3, rollout=rollout),
        score=lambda prompts, answers: torch.arange(float(len(answers))),
        options=TrainerOptions(log=rows.append),
    )
    assert metrics["skipped_steps"] == 1
    assert "a step was skipped" in rows[1]["alarm"]
    assert all_weights_are_finite(tmp_path)


def test_training_with_only_nan_steps_stops(tiny, tmp_path, monkeypatch):
    return_nan(monkeypatch, reward_module, "preference_loss", lambda call: True)
    with pytest.raises(RunFailed, match="5 consecutive steps") as error:
        train_reward(preferences(), tiny, tmp_path / "reward", Reward(batch_size=4, epochs=3))
    assert error.value.exit_code == 5
    assert not (tmp_path / "reward").exists()


def test_pickled_weights_are_not_opened(tiny, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    torch.save({"weight": torch.ones(2)}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for load in (load_language_model, load_scalar_model):
        with pytest.raises(InputError, match="no model could be opened"):
            load(str(folder))


def test_truncated_checkpoint_is_not_opened(tiny, tmp_path):
    train_sft([(PROMPTS[0], GOOD)], tiny, tmp_path / "out", SFT(epochs=1))
    path = tmp_path / "out/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="no model could be opened"):
        load_language_model(str(tmp_path / "out"))
