"""Losses against closed forms and slow loops; every check also rejects a wrong variant."""

import math

import pytest
import torch

from cai.rl.losses import (
    dpo_loss,
    entropy,
    language_model_loss,
    policy_loss,
    preference_loss,
    token_logprobs,
    value_loss,
)
from cai.rl.masked import masked_mean, masked_variance, whiten

torch.manual_seed(0)


def test_preference_loss_is_bradley_terry_cross_entropy():
    first, second, p = torch.randn(50).double(), torch.randn(50).double(), torch.rand(50).double()
    win = torch.sigmoid(first.float() - second.float())
    expected = -(p * win.log() + (1 - p) * (1 - win).log())
    assert torch.allclose(preference_loss(first, second, p).double(), expected, atol=1e-6)


def test_preference_loss_hard_soft_and_symmetric():
    d = torch.tensor([0.7, -2.0])
    hard = preference_loss(d, torch.zeros(2), torch.ones(2))
    assert torch.allclose(hard, -torch.nn.functional.logsigmoid(d))
    p = torch.tensor([0.3, 0.9])
    assert torch.allclose(
        preference_loss(d, torch.zeros(2), p), preference_loss(torch.zeros(2), d, 1 - p)
    )
    assert not torch.allclose(
        preference_loss(d, torch.zeros(2), p), preference_loss(torch.zeros(2), d, p)
    )


def test_a_margin_asks_the_better_answer_for_a_lead():
    d, margin = torch.tensor([1.2, -0.4]), torch.tensor([0.5, 0.5])
    win, lose = (1 / (1 + (-(sign * d - margin)).exp()) for sign in (1, -1))
    assert torch.allclose(preference_loss(d, torch.zeros(2), torch.ones(2), margin), -win.log())
    assert torch.allclose(preference_loss(d, torch.zeros(2), torch.zeros(2), margin), -lose.log())
    assert (
        preference_loss(d, torch.zeros(2), torch.ones(2), margin)
        > preference_loss(d, torch.zeros(2), torch.ones(2))
    ).all()


def test_preference_loss_has_no_gradient_at_its_optimum():
    d = torch.tensor([math.log(0.8 / 0.2), 0.0], requires_grad=True)
    preference_loss(d, torch.zeros(2), torch.tensor([0.8, 0.5])).sum().backward()
    assert d.grad is not None
    assert d.grad.abs().max() < 1e-6


def test_preference_loss_is_finite_far_out():
    assert torch.isfinite(
        preference_loss(torch.tensor([-2e4]), torch.zeros(1), torch.ones(1))
    ).all()


def test_dpo_is_ln2_where_policy_is_reference():
    logp = torch.randn(5)
    assert torch.allclose(
        dpo_loss(logp, logp - 1, logp, logp - 1, torch.rand(5), 0.1), torch.full((5,), math.log(2))
    )


def test_token_logprobs_and_entropy_at_temperature():
    logits, tokens = torch.randn(2, 3, 7), torch.randint(0, 7, (2, 3))
    expected = torch.log_softmax(logits / 0.7, -1)
    for b in range(2):
        for t in range(3):
            assert token_logprobs(logits, tokens, 0.7)[b, t] == pytest.approx(
                expected[b, t, tokens[b, t]].item(), abs=1e-5
            )
    uniform = torch.zeros(1, 1, 8)
    assert entropy(uniform).item() == pytest.approx(math.log(8))


def test_entropy_of_tokens_that_are_ruled_out():
    logits = torch.tensor(
        [
            [1.0, 1.0, -math.inf, 1.0],
            [0.0, -math.inf, -math.inf, -math.inf],
            [math.log(3), 0.0, -math.inf, -math.inf],
        ]
    )
    logits.requires_grad_()
    found = entropy(logits)
    assert torch.allclose(
        found, torch.tensor([math.log(3), 0.0, 2 * math.log(2) - 0.75 * math.log(3)])
    )
    found.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert entropy(torch.tensor([math.nan, 0.0])).isnan()  # what is no distribution has no entropy


def test_accumulated_loss_equals_the_big_batch():
    logprobs, mask = torch.randn(8, 5), torch.rand(8, 5) > 0.4
    whole = language_model_loss(logprobs, mask, float(mask.sum()))
    parts = sum(
        language_model_loss(logprobs[i : i + 2], mask[i : i + 2], float(mask.sum()))
        for i in range(0, 8, 2)
    )
    means = (
        sum(
            language_model_loss(logprobs[i : i + 2], mask[i : i + 2], float(mask[i : i + 2].sum()))
            for i in range(0, 8, 2)
        )
        / 4
    )
    assert torch.allclose(whole, parts)
    assert not torch.allclose(whole, means)


def slow_policy_loss(new, old, advantages, mask, clip):
    terms = []
    for b in range(new.shape[0]):
        for t in range(new.shape[1]):
            if mask[b, t]:
                ratio = math.exp(new[b, t] - old[b, t])
                terms.append(
                    max(
                        -advantages[b, t] * ratio,
                        -advantages[b, t] * min(max(ratio, 1 - clip), 1 + clip),
                    )
                )
    return sum(terms) / len(terms)


def test_policy_loss_against_a_loop():
    new, old, advantages = (torch.randn(4, 6).double() for _ in range(3))
    mask = torch.rand(4, 6) > 0.3
    found = policy_loss(new, old, advantages, mask, 0.2)
    assert found.loss.item() == pytest.approx(
        float(slow_policy_loss(new, old, advantages, mask, 0.2)), rel=1e-9
    )
    assert found.loss.item() != pytest.approx(
        float(slow_policy_loss(new, old, -advantages, mask, 0.2))
    )


def test_policy_loss_at_ratio_one_is_the_policy_gradient():
    new, advantages, mask = (
        torch.randn(3, 4, requires_grad=True),
        torch.randn(3, 4),
        torch.ones(3, 4),
    )
    policy_loss(new, new.detach(), advantages, mask, 0.2).loss.backward()
    assert new.grad is not None
    assert torch.allclose(new.grad, -advantages / 12)


def test_policy_loss_is_finite_for_a_far_ratio():
    logprobs = torch.tensor([[200.0]], requires_grad=True)
    advantages = torch.tensor([[-1.0]])
    loss = policy_loss(logprobs, torch.zeros(1, 1), advantages, torch.ones(1, 1), 0.2).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logprobs.grad).all()


def test_padding_never_counts():
    new, old, advantages, mask = (
        torch.randn(3, 5),
        torch.randn(3, 5),
        torch.randn(3, 5),
        torch.rand(3, 5) > 0.5,
    )
    garbage = [
        torch.where(mask, x, torch.full_like(x, float("nan"))) for x in (new, old, advantages)
    ]
    assert torch.equal(
        policy_loss(*garbage[:2], advantages, mask, 0.2).loss,
        policy_loss(new, old, advantages, mask, 0.2).loss,
    )
    assert torch.equal(masked_mean(garbage[2], mask), masked_mean(advantages, mask))
    assert torch.equal(whiten(garbage[2], mask), whiten(advantages, mask))


def test_value_loss_takes_the_worse_of_plain_and_clipped():
    values, old, returns = torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]])
    assert value_loss(values, old, returns, torch.ones(1, 1), 0.2).loss.item() == pytest.approx(
        0.5 * 0.8**2
    )
    assert value_loss(values, old, returns, torch.ones(1, 1), 5.0).loss.item() == 0.0


def test_clip_fraction_and_ratio():
    values, old, returns = (
        torch.tensor([[1.0, 0.1, 1.0]]),
        torch.zeros(1, 3),
        torch.tensor([[1.0, 1.0, -1.0]]),
    )
    mask = torch.ones(1, 3)
    assert value_loss(values, old, returns, mask, 0.2).clip_fraction.item() == pytest.approx(
        1 / 3
    )  # the first; the last is worse unclipped
    assert (
        value_loss(values, old, returns, torch.tensor([[0.0, 1.0, 1.0]]), 0.2).clip_fraction.item()
        == 0
    )
    new, before = (
        torch.log(torch.tensor([[0.5, 0.3, 0.9]])),
        torch.log(torch.tensor([[0.25, 0.3, 0.1]])),
    )
    assert policy_loss(
        new, before, mask, torch.tensor([[1.0, 1.0, 0.0]]), 0.2
    ).ratio.item() == pytest.approx(1.5)


def test_whiten_gives_mean_0_and_variance_1():
    values, mask = torch.randn(6, 7) * 3 + 5, torch.rand(6, 7) > 0.4
    white = whiten(values, mask)
    assert masked_mean(white, mask).abs() < 1e-5
    assert abs(masked_variance(white, mask) - 1) < 1e-4


def test_whiten_one_value_or_equal_values_is_finite():
    assert torch.isfinite(whiten(torch.tensor([[3.0]]), torch.ones(1, 1))).all()
    assert torch.isfinite(whiten(torch.full((2, 2), 3.0), torch.ones(2, 2))).all()
