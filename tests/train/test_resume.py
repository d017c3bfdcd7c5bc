"""Killed after any step and started again, each training ends with the very weights of one that was never killed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cai.config import DPO, PPO, SFT, Monitor, PPORollout, Reward
from cai.records import Comparison, Preference, Prompt
from cai.train import resume
from cai.train.dpo import train_dpo
from cai.train.ppo.rewards import ConstraintReward
from cai.train.ppo.trainer import train_ppo
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
        comparison=Comparison.of(p, "With soap.", "I cannot say that."),
        p_first=(i % 3) / 2,
        source="x",
    )
    for i, p in enumerate(PROMPTS)
]


def sft(base, out, **more):
    return train_sft(ROWS, base, out, SFT(epochs=3, batch_size=2, learning_rate=1e-3), **more)


def reward(base, out, **more):
    return train_reward(
        LABELS,
        base,
        out,
        Reward(epochs=3, batch_size=2, learning_rate=1e-3, eval_fraction=0),
        **more,
    )


def dpo(base, out, **more):
    return train_dpo(LABELS, base, out, DPO(epochs=3, batch_size=2, learning_rate=1e-3), **more)


def ppo(base, out, **more):
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
    monitor = Monitor(eval_every=2, eval_prompts=3, keep="best")
    return train_ppo(
        PROMPTS,
        base,
        "",
        out,
        config,
        score=score,
        constraint=ConstraintReward(constraint, min=3.0),
        monitor=monitor,
        eval_prompts=PROMPTS[:3],
        **more,
    )


class Killed(Exception):
    pass


def kill_at(step):
    def log(row):
        if row.get("step", row.get("update")) == step:
            raise Killed

    return log


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("train", [sft, reward, dpo, ppo])
def test_killed_twice_it_ends_with_the_same_weights(train, tiny, tmp_path):
    whole = train(tiny, tmp_path / "whole")
    for step in (2, 5):
        with pytest.raises(Killed):
            train(tiny, tmp_path / "out", save_every=0.0, log=kill_at(step))
        assert [p.name for p in (tmp_path / "out.resume").iterdir()] == [f"step-{step}"]
    seen = []
    again = train(tiny, tmp_path / "out", save_every=0.0, log=seen.append)
    assert seen[0].get("step", seen[0].get("update")) == 6, "it went on where it was"
    assert again == whole and equal(weights(tmp_path / "out"), weights(tmp_path / "whole"))
    assert not (tmp_path / "out.resume").exists()


def test_a_state_without_its_moments_would_not_do(tiny, tmp_path, monkeypatch):
    sft(tiny, tmp_path / "whole")
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_every=0.0, log=kill_at(5))
    from cai.train.engine import Engine

    restore = Engine.restore
    monkeypatch.setattr(
        Engine,
        "restore",
        lambda self, tensors, values: restore(
            self, {k: v * (0 if "exp_avg" in k else 1) for k, v in tensors.items()}, values
        ),
    )
    sft(tiny, tmp_path / "out")
    assert not equal(weights(tmp_path / "out"), weights(tmp_path / "whole"))


def test_a_flipped_byte_is_refused_and_the_training_starts_again(tiny, tmp_path, capsys):
    whole = sft(tiny, tmp_path / "whole")
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_every=0.0, log=kill_at(4))
    path = tmp_path / "out.resume/step-4/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    seen = []
    assert sft(tiny, tmp_path / "out", log=seen.append) == whole and seen[0]["step"] == 1
    assert "is not as it was written and is not used" in capsys.readouterr().err


def test_a_kill_while_a_state_is_written_leaves_the_one_before(tiny, tmp_path, monkeypatch):
    whole = sft(tiny, tmp_path / "whole")
    save_file, written = resume.save_file, []

    def half(tensors, path):
        written.append(path)
        save_file(tensors, path)
        if len(written) == 4:
            Path(path).write_bytes(Path(path).read_bytes()[:100])
            raise Killed

    monkeypatch.setattr(resume, "save_file", half)
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_every=0.0)
    assert sorted(p.name for p in (tmp_path / "out.resume").iterdir()) == [
        "step-3",
        "step-4.partial",
    ]
    monkeypatch.setattr(resume, "save_file", save_file)
    seen = []
    assert sft(tiny, tmp_path / "out", log=seen.append) == whole and seen[0]["step"] == 4


def test_a_state_of_another_training_is_not_used(tiny, tmp_path):
    with pytest.raises(Killed):
        sft(tiny, tmp_path / "out", save_every=0.0, log=kill_at(4))
    assert json.loads((tmp_path / "out.resume/step-4/state.json").read_text())["done"] == 4
    seen = []
    sft(tiny, tmp_path / "out", seed=1, log=seen.append)
    assert seen[0]["step"] == 1
