"""Variants of PPO: RLOO, GRPO, a value head, PPO-ptx, early stopping of an update."""

import pytest
import torch
from test_ppo import CONFIG
from toy_data import PROMPTS

from cai.config import PPO, PPORollout, Training
from cai.evaluate.likelihood import answer_logprobs
from cai.models.packing.layout import PromptGroup
from cai.records import Prompt
from cai.rl.advantages import grpo_advantages, rloo_advantages
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.prompts import prompt_batches
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.ppo.update import exceeds_target_kl

TWO_SAMPLES = PPORollout(samples_per_prompt=2)
FOUR_SAMPLES = PPORollout(batch_size=24, max_tokens=10, samples_per_prompt=4)


def test_rloo_and_grpo_advantages_against_loops():
    returns = torch.tensor([1.0, 2.0, 6.0, -1.0, 0.0, 4.0])
    groups = [returns[:3], returns[3:]]
    expected = []
    for group in groups:
        for i in range(3):
            others = torch.cat([group[:i], group[i + 1 :]])
            expected.append(group[i] - others.mean())
    assert torch.allclose(rloo_advantages(returns, 3), torch.stack(expected))
    standardized = [(group - group.mean()) / (group.std() + 1e-4) for group in groups]
    assert torch.allclose(grpo_advantages(returns, 3), torch.cat(standardized))
    assert torch.equal(grpo_advantages(torch.ones(4), 2), torch.zeros(4))


@pytest.mark.parametrize("unknown", [99.0, float("nan")])
def test_rloo_and_grpo_advantages_of_known_returns(unknown):
    known = torch.tensor([True, False, True, True, False, False, False, False, False])
    values = torch.tensor([1.0, 0.0, 6.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    returns = torch.where(known, values, unknown)
    assert rloo_advantages(returns, 3, known).tolist() == [-5.0, 0.0, 5.0] + [0.0] * 6
    pair = torch.tensor([1.0, 6.0])
    first, second = (pair - pair.mean()) / (pair.std() + 1e-4)
    expected = torch.tensor([first, 0.0, second, *[0.0] * 6])
    assert torch.allclose(grpo_advantages(returns, 3, known), expected)


def test_prompt_batches_repeat_prompts_in_a_row():
    rollout = PPORollout(batch_size=8, samples_per_prompt=4)
    batches = list(prompt_batches(6, PPO(num_updates=3, method="rloo", rollout=rollout), 0))
    for batch in batches:
        assert len(batch) == 8
        assert len(set(batch[:4])) == len(set(batch[4:])) == 1
    assert sorted(prompt for batch in batches for prompt in batch[::4]) == list(range(6))


def test_samples_per_prompt_must_fit_method_and_batch():
    with pytest.raises(ValueError, match="samples_per_prompt"):
        PPO(method="rloo")
    with pytest.raises(ValueError, match="samples_per_prompt"):
        PPORollout(samples_per_prompt=3, batch_size=8)


@pytest.mark.parametrize(
    ("changes", "training"),
    [
        ({"method": "rloo", "rollout": FOUR_SAMPLES}, Training()),
        ({"method": "grpo", "rollout": FOUR_SAMPLES}, Training()),
        ({"critic": "head"}, Training()),
        ({"critic": "head", "learning_rate": 1e-2}, Training(lora_rank=8, lora_alpha=16)),
    ],
    ids=["rloo", "grpo", "head", "head_lora"],
)
def test_variant_learns_the_reward(two_answer_policy, good_score, tmp_path, changes, training):
    config = CONFIG.model_copy(update=changes)
    options = TrainerOptions(training=training)
    metrics = train_ppo(
        PROMPTS, two_answer_policy, tmp_path, config, score=good_score, options=options
    )
    assert metrics["reward_before"] < 0.75
    # adapters of rank 8 learn more slowly in so few updates
    wanted = metrics["reward_before"] + 0.1 if training.lora_rank else 0.8
    assert metrics["reward_after"] > wanted
    assert metrics["kl"] < 8


def test_value_head_starts_at_zero(tiny):
    actor_critic = ActorCritic(tiny, PPO(critic="head"), Training())
    assert actor_critic.critic is None
    values = actor_critic.forward([PromptGroup([5, 6], [[7, 8]])]).values
    assert torch.equal(values, torch.zeros(2))


def test_rloo_has_no_critic(tiny):
    actor_critic = ActorCritic(tiny, PPO(method="rloo", rollout=TWO_SAMPLES), Training())
    assert actor_critic.engines.keys() == {"policy"}


def test_ptx_keeps_the_fine_tuning_rows(two_answer_policy, good_score, tmp_path):
    """Without the loss on these rows PPO unlearns them, since the reward ignores them."""
    examples = [(Prompt.of("Say it again."), "Have a lovely day. Then check the boat twice.")] * 8
    losses = {}
    for coef in (0.0, 1.0):
        rows = []
        out = tmp_path / str(coef)
        train_ppo(
            PROMPTS,
            two_answer_policy,
            out,
            CONFIG.model_copy(update={"num_updates": 8, "ptx_coef": coef}),
            score=good_score,
            inputs=PPOInputs(ptx_examples=examples),
            options=TrainerOptions(log=rows.append),
        )
        assert ("ptx_loss" in rows[0]) == bool(coef)
        losses[coef] = -answer_logprobs(str(out), examples[:1])[0][0]
    assert losses[1.0] < 0.5 * losses[0.0]


@pytest.mark.parametrize(
    ("steps", "target_kl", "exceeds"),
    [
        ([{"approx_kl": 0.15}, {"approx_kl": 0.03}], 0.1, False),
        ([{"approx_kl": 0.15}, {}], 0.1, True),  # a skipped step is not a step of KL 0
        ([{}], 0.1, False),
        ([{"approx_kl": 9.0}], None, False),
    ],
)
def test_target_kl_is_held_against_measured_steps(steps, target_kl, exceeds):
    assert exceeds_target_kl(steps, target_kl) == exceeds


@pytest.mark.parametrize(("target_kl", "steps"), [(None, 8), (1e-9, 2)])
def test_target_kl_skips_remaining_epochs(
    two_answer_policy, good_score, tmp_path, target_kl, steps
):
    rows = []
    changes = {"num_updates": 2, "epochs": 4, "num_minibatches": 2, "target_kl": target_kl}
    config = CONFIG.model_copy(update=changes)
    options = TrainerOptions(log=rows.append)
    train_ppo(PROMPTS, two_answer_policy, tmp_path, config, score=good_score, options=options)
    assert [row["steps"] for row in rows] == [steps, steps]
