"""Options that save memory give the same result: checkpointing, micro-batches, bfloat16."""

import math

import pytest
import torch
from safetensors.torch import load_file
from toy_data import GOOD, PROMPTS

from cai.config import PPO, SFT, PPORollout, Training
from cai.models.packing.layout import PromptGroup, pack
from cai.train.load import load_policy
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.trainer import train_ppo
from cai.train.sft import train_sft

ROWS = [(prompt, GOOD) for prompt in PROMPTS]
FLOAT32 = Training(precision="float32")
CHECKPOINTING = Training(gradient_checkpointing=True, precision="float32")


def weights(folder):
    return load_file(folder / "model.safetensors")


def count_calls(model):
    """Return a list that grows with each forward pass of the first feed-forward layer."""
    calls = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


@pytest.fixture(scope="module")
def plain_weights(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")
    config = SFT(epochs=2, batch_size=8, learning_rate=1e-3)
    train_sft(ROWS, tiny, out, config, options=TrainerOptions(training=FLOAT32))
    return weights(out)


@pytest.mark.parametrize(
    "training",
    [CHECKPOINTING, Training(micro_batch_tokens=30, precision="float32")],
    ids=["gradient_checkpointing", "micro_batch_tokens"],
)
def test_saving_memory_gives_the_same_weights(tiny, plain_weights, tmp_path, training):
    config = SFT(epochs=2, batch_size=8, learning_rate=1e-3)
    train_sft(ROWS, tiny, tmp_path, config, options=TrainerOptions(training=training))
    for name, weight in weights(tmp_path).items():
        assert torch.allclose(weight, plain_weights[name], atol=1e-4)


def test_gradient_checkpointing_recomputes_activations(tiny):
    policy, _ = load_policy(tiny, CHECKPOINTING)
    policy.train()
    calls = count_calls(policy.model)
    logits, _ = policy(pack(policy.model, [PromptGroup([5, 6], [[7]])], 0))
    logits.sum().backward()
    assert len(calls) == 2


def test_ppo_gradient_checkpointing(tiny):
    """Policy and critic recompute activations; generation works with its cache all the same."""
    actor_critic = ActorCritic(tiny, PPO(), CHECKPOINTING)
    actor_critic.generate([[5, 6, 7]], max_tokens=4, temperature=0.0, seeds=[0])
    packed = actor_critic.pack([PromptGroup([5, 6], [[7]])])
    policy_calls = count_calls(actor_critic.actor.model.model)
    logits, _ = actor_critic.actor.model(packed)
    logits.sum().backward()
    critic_calls = count_calls(actor_critic.critic.model.model)
    actor_critic.critic.model(packed, values=True).sum().backward()
    assert len(policy_calls) == len(critic_calls) == 2


def test_bfloat16_sft_learns_with_float32_weights(tiny, tmp_path):
    config = SFT(epochs=8, batch_size=8, learning_rate=5e-3)
    losses = {}
    for precision in ("float32", "bfloat16"):
        options = TrainerOptions(training=Training(precision=precision))
        metrics = train_sft(ROWS, tiny, tmp_path / precision, config, options=options)
        losses[precision] = metrics["loss_last"]
        assert all(w.dtype == torch.float32 for w in weights(tmp_path / precision).values())
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.2)


def test_bfloat16_ppo_runs(tiny, tmp_path):
    rollout = PPORollout(batch_size=6, max_tokens=5)
    metrics = train_ppo(
        PROMPTS,
        tiny,
        tmp_path,
        PPO(num_updates=2, learning_rate=1e-3, rollout=rollout),
        score=lambda prompts, answers: [float(len(answer)) for answer in answers],
        options=TrainerOptions(training=Training(precision="bfloat16")),
    )
    assert metrics["num_updates"] == 2
    assert math.isfinite(metrics["kl"])
