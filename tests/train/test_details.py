"""Small print of training that nothing else here would miss."""

import pytest
import torch
from test_ppo import CONFIG, some_rollout
from toy_data import PROMPTS

from cai.config import PPO, PPORollout
from cai.models.load import load_language_model
from cai.models.scalar import load_scalar_model
from cai.rl.advantages import gae, shaped_rewards
from cai.rl.losses import policy_loss
from cai.train.engine import Engine, StepLoss
from cai.train.options import TrainerOptions
from cai.train.ppo.prompts import prompt_batches, rollout_seeds
from cai.train.ppo.trainer import train_ppo
from cai.train.ppo.update import MinibatchTrainer, compute_targets


@pytest.mark.parametrize(
    "opened", [load_language_model, lambda name: load_scalar_model(name, new_head=True)]
)
def test_dropout_is_off_even_in_training(tiny_gpt2, opened):
    model = opened(tiny_gpt2).model.train()
    ids = torch.arange(5, 25).view(1, -1)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)


def test_returns_are_taken_before_whitening(tiny, monkeypatch):
    _, _, rollout = some_rollout(tiny, monkeypatch)
    targets = compute_targets(rollout, 0.1, CONFIG)
    rewards = shaped_rewards(
        rollout.scores, rollout.logprobs, rollout.ref_logprobs, rollout.mask, 0.1
    )
    assert torch.allclose(
        targets.returns,
        gae(rewards, rollout.values, rollout.mask, CONFIG.gamma, CONFIG.gae_lambda)[1],
    )
    assert not torch.allclose(
        targets.advantages + rollout.values * rollout.mask, targets.returns, atol=1e-2
    )


def test_ppo_epochs_use_fresh_permutations(tiny, monkeypatch):
    actor_critic, _, rollout = some_rollout(tiny, monkeypatch)
    seen = []
    monkeypatch.setattr(
        MinibatchTrainer,
        "_step",
        lambda self, batch, *key: seen.append(list(batch)) or {"approx_kl": 0.0},
    )
    config = PPO(epochs=3, num_minibatches=2, rollout=PPORollout(batch_size=6))
    targets = compute_targets(rollout, 0.1, config)
    MinibatchTrainer(actor_critic, rollout, targets, config, micro_batch_tokens=1000).train(0, 1)
    micro_batches = [seen[at] + seen[at + 1] for at in (0, 2, 4)]
    assert (
        all(sorted(order) == list(range(6)) for order in micro_batches)
        and len(set(map(tuple, micro_batches))) == 3
    )


def test_repeated_prompts_get_different_rollout_seeds():
    (batch, *_) = prompt_batches(2, PPO(num_updates=1, rollout=PPORollout(batch_size=6)), 0)
    assert len(batch) == 6 and len(set(rollout_seeds(batch, 0, 0))) == 6
    assert rollout_seeds(batch, 0, 0) == rollout_seeds(batch, 0, 0) != rollout_seeds(batch, 0, 1)


def test_adamw_warms_up_decays_and_has_eps_1e_5():
    engine = Engine(torch.nn.Linear(2, 1), learning_rate=0.1, steps=40, warmup=0.1)
    group = engine.optimizer.param_groups[0]
    assert group["eps"] == 1e-5 and group["betas"] == (0.9, 0.95)
    rates = []
    for _ in range(40):
        rates.append(group["lr"])
        engine.step([lambda: StepLoss(engine.model(torch.ones(1, 2)).sum())])
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1]) and rates[-1] == pytest.approx(
        0.1 / 36
    )
    assert (
        max(rates) == pytest.approx(0.1)
        and rates[4:] == sorted(rates[4:], reverse=True)
        and group["lr"] == 0.0
    )


def test_policy_loss_is_finite_for_a_far_ratio():
    new = torch.tensor([[200.0]], requires_grad=True)
    loss = policy_loss(new, torch.zeros(1, 1), torch.tensor([[-1.0]]), torch.ones(1, 1), 0.2).loss
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(new.grad).all()


@pytest.mark.parametrize("critic", ["model", "head"])
def test_ppo_update_metrics(tiny, tmp_path, critic):
    rows = []
    train_ppo(
        PROMPTS,
        tiny,
        tmp_path / "ppo",
        PPO(num_updates=1, critic=critic, rollout=PPORollout(batch_size=4, max_tokens=4)),
        score=lambda prompts, answers: torch.tensor([float(len(a)) for a in answers]),
        options=TrainerOptions(log=rows.append),
    )
    assert len(rows) == 1 and rows[0].keys() >= {
        "score",
        "score_std",
        "kl",
        "kl_coef",
        "approx_kl",
        "ratio",
        "clip_fraction",
        "value_clip_fraction",
        "entropy",
        "explained_variance",
        "length",
        "stopped",
        "unique_fraction",
        "policy_loss",
        "value_loss",
        "policy_grad_norm",
        "steps",
        "rollout_seconds",
        "update_seconds",
    }
    assert abs(rows[0]["ratio"] - 1) < 0.2
