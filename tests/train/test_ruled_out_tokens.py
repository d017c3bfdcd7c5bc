"""A model that rules out one id of its vocabulary (a logit of minus infinity) can be optimised."""

import math

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from cai.config import PPO, PPORollout
from cai.records import Prompt
from cai.reference.tokenizer import build_tokenizer
from cai.train.options import TrainerOptions
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
