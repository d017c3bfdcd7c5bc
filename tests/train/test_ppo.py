"""PPO: its rollouts against a loop, and a planted reward that it learns."""

import math

import pytest
import torch
from toy_data import PROMPTS

from cai.config import PPO, PPORollout, Training
from cai.models.chat_template.format import ChatFormat
from cai.models.decode import decode
from cai.models.load import load_language_model
from cai.records import Prompt
from cai.rl.losses import policy_loss, token_logprobs
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.prompts import prompt_batches
from cai.train.ppo.rollout import collect_rollout, prompt_groups_of
from cai.train.ppo.trainer import train_ppo
from cai.train.ppo.update import compute_targets

CONFIG = PPO(
    num_updates=16,
    epochs=2,
    learning_rate=2e-3,
    value_learning_rate=3e-3,
    kl_coef=0.02,
    rollout=PPORollout(batch_size=24, max_tokens=10),
)


def some_rollout(
    tiny,
    monkeypatch,
    score=lambda prompts, answers: torch.tensor([float(len(a)) for a in answers]),
    missing=None,
):
    actor_critic = ActorCritic(tiny, PPO(rollout=PPORollout(temperature=0.9)), Training())
    chat = ChatFormat(actor_critic.tokenizer)
    prompts = [
        chat.ids(chat.prompt(p.messages))
        for p in [*PROMPTS[:5], Prompt.of("Hello. Please explain how to wash the old boat.")]
    ]
    # some tokens that an untrained model does say now and then
    stops = frozenset({300, *range(1000, 1300)})
    monkeypatch.setattr(
        "cai.train.ppo.actor_critic.decode", lambda *a, **k: decode(*a, **{**k, "stop_ids": stops})
    )
    return (
        actor_critic,
        prompts,
        collect_rollout(
            actor_critic, prompts, score, seeds=range(6), max_tokens=8, missing_eos_score=missing
        ),
    )


def test_before_the_first_update_all_ratios_are_one_and_the_kl_is_zero(tiny, monkeypatch):
    actor_critic, _, rollout = some_rollout(tiny, monkeypatch)
    prompt_groups = prompt_groups_of([(e.prompt, e.answer) for e in rollout.trajectories])
    old = rollout.logprobs[rollout.mask]
    again = actor_critic.forward(prompt_groups).logprobs
    found = policy_loss(again, old, torch.randn_like(again), torch.ones_like(again), 0.2)
    assert found.approx_kl < 1e-9 and found.clip_fraction == 0
    assert torch.allclose(old, rollout.ref_logprobs[rollout.mask], atol=1e-5)
    # the wrong temperature shows at once
    actor_critic.temperature = 1.0
    wrong = actor_critic.forward(prompt_groups).logprobs
    assert (
        policy_loss(wrong, old, torch.randn_like(again), torch.ones_like(again), 0.2).approx_kl
        > 1e-4
    )


def test_rollout_against_a_loop_over_rows(tiny, monkeypatch):
    actor_critic, prompts, rollout = some_rollout(tiny, monkeypatch)
    assert len(set(rollout.lengths.tolist())) > 1, (
        "rows should differ in length for this test to see padding"
    )
    value_model = actor_critic.critic.unwrapped.model
    with torch.no_grad():
        for i, prompt in enumerate(prompts):
            length = int(rollout.lengths[i])
            answer = rollout.trajectories[i].answer
            ids = torch.tensor([prompt + answer])
            expected = token_logprobs(
                actor_critic.model(ids).logits[:, len(prompt) - 1 : -1], ids[:, len(prompt) :], 0.9
            )[0]
            assert torch.allclose(rollout.logprobs[i, :length], expected, atol=1e-4)
            hidden = value_model.base_model(ids).last_hidden_state[0, len(prompt) - 1 : -1]
            assert torch.allclose(
                rollout.values[i, :length], value_model.score(hidden)[:, 0], atol=1e-4
            )
            assert rollout.scores[i] == length and bool(rollout.mask[i].sum() == length)


def test_answers_without_an_end_get_the_score_that_was_asked_for(tiny, monkeypatch):
    _, _, rollout = some_rollout(tiny, monkeypatch, missing=-1.0)
    assert (rollout.scores[~rollout.stopped] == -1).all() and (
        rollout.scores[rollout.stopped] > 0
    ).all()
    assert 0 < rollout.stopped.sum() < 6


def test_advantages_are_whitened_over_valid_tokens_only(tiny, monkeypatch):
    _, _, rollout = some_rollout(tiny, monkeypatch)
    moved = rollout._replace(
        values=torch.where(rollout.mask, rollout.values, rollout.values + 50),
        logprobs=torch.where(rollout.mask, rollout.logprobs, rollout.logprobs - 9),
    )
    one, other = (compute_targets(r, 0.1, CONFIG) for r in (rollout, moved))
    assert torch.equal(one.advantages, other.advantages) and torch.equal(one.returns, other.returns)


def test_ppo_raises_a_planted_reward_within_bounded_kl(both_ways, glad, tmp_path):
    """A policy that says one of two sentences, half of the time each, learns the one that scores."""
    rows = []
    metrics = train_ppo(
        PROMPTS,
        both_ways,
        tmp_path / "p",
        CONFIG,
        score=glad,
        options=TrainerOptions(log=rows.append),
    )
    assert metrics["reward_before"] < 0.7
    assert metrics["reward_after"] > 0.8
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-3)
    assert metrics["kl"] < 3
    assert all(
        math.isfinite(value) for row in rows for name, value in row.items() if name != "alarm"
    )
    load_language_model(str(tmp_path / "p"))


def test_prompt_batches_pass_over_all_prompts():
    config = PPO(num_updates=6, rollout=PPORollout(batch_size=4))
    batches = list(prompt_batches(8, config, 0))
    assert (
        len(batches) == 6
        and sorted(batches[0] + batches[1]) == list(range(8))
        and batches == list(prompt_batches(8, config, 0))
    )
