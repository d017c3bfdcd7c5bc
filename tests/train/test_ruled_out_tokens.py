"""A model that rules out one id of its vocabulary (a logit of minus infinity) can be optimised."""

import math

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from cai.config import PPO, Monitor, PPORollout
from cai.records import Prompt
from cai.reference.tokenizer import build_tokenizer
from cai.train.options import TrainerOptions
from cai.train.ppo.monitor import TrainingMonitor, limits_of
from cai.train.ppo.trainer import train_ppo


@pytest.fixture
def policy(tmp_path):
    """An untrained Phi, whose output layer has a bias."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = PhiForCausalLM(config)
    model.lm_head.bias.data[7] = -math.inf
    model.save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    return str(tmp_path / "policy")


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_ppo_entropy_with_a_ruled_out_token(policy, tmp_path, method):
    rows = []
    prompts = [Prompt.of(f"How do I wash the {thing}?") for thing in ("dog", "cat", "car", "van")]
    config = PPO(
        num_updates=2,
        epochs=1,
        method=method,
        rollout=PPORollout(batch_size=4, max_tokens=6, samples_per_prompt=2),
    )

    def score(asked, answers):
        return torch.tensor([float(len(set(answer))) for answer in answers])

    train_ppo(
        prompts,
        policy,
        tmp_path / "out",
        config,
        score=score,
        options=TrainerOptions(log=rows.append),
    )
    size = len(build_tokenizer())
    assert len(rows) == 2 and all(
        0 < row["entropy"] <= math.log(size - 1) + 1e-4 and math.isfinite(row["kl"]) for row in rows
    )
    kept = PhiForCausalLM.from_pretrained(tmp_path / "out")
    assert kept.lm_head.bias[7] == -math.inf and not any(p.isnan().any() for p in kept.parameters())


def test_monitor_without_finite_metrics_warns(tmp_path):
    settings = Monitor(min_entropy=0.1, patience=1)
    training_monitor = TrainingMonitor(
        settings, limits_of(settings, batch_size=4, score_clip=None), checkpoints=None
    )
    row = {
        "kl": 0.0,
        "unique_fraction": 1.0,
        "score": 0.0,
        "score_std": 1.0,
        "stopped": 1.0,
        "length": 3.0,
        "skipped": 1.0,
        "unread": 0.0,
    }
    assert (
        training_monitor.after(1, [row])
        == {"alarm": "a step was skipped because its gradient was not finite"}
        and not training_monitor.stopped_by
    )
    assert (
        training_monitor.after(2, [row | {"entropy": 0.01}])["alarm"].startswith(
            "entropy below 0.1 nats"
        )
        and training_monitor.stopped_by
    )
