"""Shaped rewards and GAE against hand-written loops."""

import pytest
import torch

from cai.rl.advantages import gae, shaped_rewards
from cai.rl.kl import KLController, k1

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()


def slow_gae(rewards, values, length, gamma, gae_lambda):
    advantages = []
    for t in range(length):
        total = 0.0
        for k in range(t, length):
            next_value = values[k + 1] if k + 1 < length else 0.0
            total += (gamma * gae_lambda) ** (k - t) * (rewards[k] + gamma * next_value - values[k])
        advantages.append(total)
    return advantages


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_gae_against_the_definition(gamma, gae_lambda):
    torch.manual_seed(1)
    rewards, values = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    advantages, returns = gae(rewards, values, MASK, gamma, gae_lambda)
    for b in range(3):
        length = int(MASK[b].sum())
        expected = torch.tensor(
            slow_gae(rewards[b].tolist(), values[b].tolist(), length, gamma, gae_lambda)
        ).double()
        assert torch.allclose(advantages[b, :length], expected, atol=1e-12)
        assert torch.equal(advantages[b, length:], torch.zeros(4 - length).double())
        assert torch.allclose(returns[b, :length], expected + values[b, :length], atol=1e-12)


def test_with_lambda_one_the_return_is_the_reward_to_go():
    rewards, values = torch.randn(1, 4).double(), torch.randn(1, 4).double()
    _, returns = gae(rewards, values, torch.ones(1, 4), 1.0, 1.0)
    assert torch.allclose(returns[0], rewards[0].flip(0).cumsum(0).flip(0))


def test_what_is_in_the_padding_does_not_matter():
    rewards, values = torch.randn(3, 4), torch.randn(3, 4)
    moved = torch.where(MASK, values, values + 100)
    assert torch.equal(
        gae(rewards, values, MASK, 1.0, 0.95)[0], gae(rewards, moved, MASK, 1.0, 0.95)[0]
    )


def test_rewards_sum_to_score_minus_kl():
    scores, logprobs, ref = torch.randn(3), torch.randn(3, 4), torch.randn(3, 4)
    rewards = shaped_rewards(scores, logprobs, ref, MASK, 0.1)
    kl = torch.where(MASK, logprobs - ref, torch.zeros(())).sum(1)
    assert torch.allclose(rewards.sum(1), scores - 0.1 * kl, atol=1e-6)
    # the score stands at the last valid token
    plain = shaped_rewards(scores, logprobs, logprobs, MASK, 0.1)
    assert torch.allclose(plain[[0, 1, 2], [2, 0, 3]], scores)
    assert (plain != 0).sum() == 3


def test_k1_is_an_unbiased_estimate_of_the_kl():
    torch.manual_seed(0)
    p = torch.tensor([0.5, 0.3, 0.2])
    q = torch.tensor([0.2, 0.3, 0.5])
    tokens = torch.multinomial(p, 200_000, replacement=True)
    exact = (p * (p / q).log()).sum()
    estimates = k1(p.log()[tokens], q.log()[tokens])
    assert abs(estimates.mean() - exact) < 0.01
    assert estimates.min() < 0


def test_kl_controller():
    fixed = KLController(0.1)
    fixed.update(50.0, 64)
    assert fixed.coef == 0.1
    adaptive = KLController(0.1, target=6.0)
    adaptive.update(12.0, 1000)
    assert adaptive.coef == pytest.approx(0.1 * (1 + 0.2 * 1000 / 10_000))
    adaptive.update(5.7, 1000)
    assert adaptive.coef == pytest.approx(0.102 * (1 - 0.05 * 1000 / 10_000))
