"""A training that is killed and started again ends with the weights of one that was never killed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cai.config import DPO, PPO, SFT, Monitor, PPORollout, Reward, Training
from cai.records import Comparison, Preference, Prompt
from cai.train import resume
from cai.train.dpo import train_dpo
from cai.train.options import TrainerOptions
from cai.train.ppo.rewards import ConstraintReward
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

PROMPTS = [
    Prompt.of(f"How do I wash the {thing}?")
    for thing in ("dog", "cat", "car", "van", "hen", "rose", "roof", "door")
]
ROWS = [
    (prompt, f"Use soap and water, {i} times." if i % 2 else "No.")
    for i, prompt in enumerate(PROMPTS)
]
LABELS = [
    Preference(
        id=str(i),
        comparison=Comparison.of(prompt, "With soap.", "I cannot say that."),
        p_first=(i % 3) / 2,
        source="x",
    )
    for i, prompt in enumerate(PROMPTS)
]


def trainer_options(save_seconds=300.0, save_total_limit=1, micro_batch_tokens=None, **others):
    training = Training(
        save_seconds=save_seconds,
        save_total_limit=save_total_limit,
        micro_batch_tokens=micro_batch_tokens,
    )
    return TrainerOptions(training=training, **others)


def sft(base, out, **options):
    config = SFT(epochs=3, batch_size=2, learning_rate=1e-3)
    return train_sft(ROWS, base, out, config, options=trainer_options(**options))


def reward(base, out, **options):
    config = Reward(epochs=3, batch_size=2, learning_rate=1e-3, eval_fraction=0)
    return train_reward(LABELS, base, out, config, options=trainer_options(**options))


def dpo(base, out, **options):
    config = DPO(epochs=3, batch_size=2, learning_rate=1e-3)
    return train_dpo(LABELS, base, out, config, options=trainer_options(**options))


def ppo(base, out, **options):
    def score(prompts, answers):
        return torch.tensor([float(sum(answer) % 7) for answer in answers])

    def constraint(prompts, answers):
        return torch.tensor([float(sum(answer) % 5) for answer in answers])

    config = PPO(
        num_updates=6,
        epochs=2,
        learning_rate=1e-3,
        value_learning_rate=1e-3,
        adaptive_kl_target=2.0,
        rollout=PPORollout(batch_size=4, max_tokens=6),
    )
    return train_ppo(
        PROMPTS,
        base,
        out,
        config,
        score=score,
        inputs=PPOInputs(
            monitor=Monitor(eval_every=2, eval_prompts=3, keep="best"),
            eval_prompts=PROMPTS[:3],
            constraint=ConstraintReward(constraint, min=3.0),
        ),
        options=trainer_options(**options),
    )


class Killed(Exception):
    pass


def step_of(row):
    return row.get("step", row.get("update"))


def kill_at(step):
    def log(row):
        if step_of(row) == step:
            raise Killed

    return log


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole_sft(tiny, tmp_path_factory):
    """An SFT that was not interrupted: its folder and its metrics."""
    folder = tmp_path_factory.mktemp("whole") / "sft"
    return folder, sft(tiny, folder)


@pytest.mark.parametrize("train", [sft, reward, dpo, ppo])
def test_resumed_training_ends_with_the_same_weights(train, tiny, tmp_path):
    expected = train(tiny, tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(Killed):
            train(tiny, tmp_path / "out", save_seconds=0.0, log=kill_at(step))
        assert [path.name for path in (tmp_path / "out.resume").iterdir()] == [f"step-{step}"]
    rows = []
    metrics = train(tiny, tmp_path / "out", save_seconds=0.0, log=rows.append)
    assert step_of(rows[0]) == 6
    assert metrics == expected
    assert equal(weights(tmp_path / "out"), weights(tmp_path / "whole"))
    assert not (tmp_path / "out.resume").exists()


def test_resume_needs_the_moments_of_the_optimizer(tiny, tmp_path, monkeypatch, whole_sft):
    from cai.train.engine import Engine

    restore = Engine.restore

    def without_moments(self, tensors, values):
        cleared = {
            name: torch.zeros_like(tensor) if "exp_avg" in name else tensor
            for name, tensor in tensors.items()
        }
        restore(self, cleared, values)

    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0, log=kill_at(5))
    monkeypatch.setattr(Engine, "restore", without_moments)
    sft(tiny, tmp_path / "out")
    assert not equal(weights(tmp_path / "out"), weights(whole_sft[0]))


def test_damaged_state_is_refused_and_training_restarts(tiny, tmp_path, capsys, whole_sft):
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0, log=kill_at(4))
    path = tmp_path / "out.resume/step-4/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    rows = []
    assert sft(tiny, tmp_path / "out", log=rows.append) == whole_sft[1]
    assert rows[0]["step"] == 1
    assert "step-4 is damaged and is not used" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sums",
    ["", "{", "[1]", "[" * 100_000, "{}", '{"state.json": 7}', '{"state.json": "0", "": ""}'],
)
def test_a_state_with_damaged_sums_is_not_used(tmp_path, capsys, sums):
    saved = resume.Resume(tmp_path / "out", ["data"], Training(save_seconds=0.0))
    folder = saved.folder / "step-4"
    folder.mkdir(parents=True)
    content = json.dumps({"key": saved.key, "done": 4, "engines": {}})
    (folder / "state.json").write_text(content)
    whole = {"state.json": resume.sha256(folder / "state.json")}
    (folder / "sha256.json").write_text(json.dumps(whole))
    assert saved.load({})["done"] == 4
    (folder / "sha256.json").write_text(sums)
    assert saved.load({}) == {}
    assert "step-4 is damaged and is not used" in capsys.readouterr().err


def test_kill_while_saving_keeps_the_previous_state(tiny, tmp_path, monkeypatch, whole_sft):
    save_file, written = resume.save_file, []

    def kill_at_fourth(tensors, path):
        written.append(path)
        save_file(tensors, path)
        if len(written) == 4:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(resume, "save_file", kill_at_fourth)
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0)
    states = sorted(path.name for path in (tmp_path / "out.resume").iterdir())
    assert states == ["step-3", "step-4.partial"]
    monkeypatch.setattr(resume, "save_file", save_file)
    rows = []
    assert sft(tiny, tmp_path / "out", log=rows.append) == whole_sft[1]
    assert rows[0]["step"] == 4


def test_a_training_resumes_with_less_memory(tiny, tmp_path, whole_sft):
    """What one changes after running out of memory does not lose the work."""
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0, log=kill_at(4))
    rows = []
    sft(tiny, tmp_path / "out", micro_batch_tokens=32, log=rows.append)
    assert rows[0]["step"] == 5
    torch.testing.assert_close(
        weights(tmp_path / "out"), weights(whole_sft[0]), atol=1e-5, rtol=1e-4
    )


def test_as_many_states_are_kept_as_wanted(tiny, tmp_path):
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0, save_total_limit=2, log=kill_at(4))
    states = sorted(path.name for path in (tmp_path / "out.resume").iterdir())
    assert states == ["step-3", "step-4"]


def test_state_of_another_training_is_not_resumed(tiny, tmp_path, capsys):
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_seconds=0.0, log=kill_at(4))
    assert json.loads((tmp_path / "out.resume/step-4/state.json").read_text())["done"] == 4
    rows = []
    sft(tiny, tmp_path / "out", seed=1, log=rows.append)
    assert rows[0]["step"] == 1
    assert "step-4 is of a training with other data, settings or models" in capsys.readouterr().err
