"""Whole algorithms on problems with a known solution.

An answer is one token of a small vocabulary, and each token has a known reward. The best policy
under a KL penalty is then ``p*(t) = p_ref(t) exp(r(t) / beta) / Z`` (arXiv 1909.08593, equation 2;
arXiv 2305.18290, equation 4).
"""

import math
import random

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cai.config import DPO, PPO, PPORollout, Reward
from cai.models.load import load_language_model
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Preference, Prompt
from cai.train.dpo import train_dpo
from cai.train.options import TrainerOptions
from cai.train.ppo.rewards import ConstraintReward
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward

WORDS = ["<pad>", "<end>", *"abcdefghij"]
REWARDS = torch.linspace(-1, 1, len(WORDS))[torch.tensor([5, 3, 8, 0, 11, 2, 9, 6, 1, 10, 4, 7])]
PROMPT = Prompt.of("a b")
PLAIN = TrainerOptions(chat_format="plain")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with an untrained model over twelve words."""
    torch.manual_seed(4)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>")
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("small")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def token_probabilities(folder):
    """The distribution of the next token after the prompt."""
    model, tokenizer = load_language_model(str(folder), dtype=torch.float32)
    return model(torch.tensor([tokenizer(PROMPT.text).input_ids])).logits[0, -1].softmax(-1)


def optimal_policy(reference, beta, rewards=REWARDS):
    return (reference.log() + rewards / beta).softmax(-1)


def total_variation(p, q):
    return float((p - q).abs().sum()) / 2


def score_by_token(values):
    """A score function that looks up the only token of an answer."""
    return lambda prompts, answers: values[torch.tensor([answer[0] for answer in answers])]


def ppo_config(num_updates, kl_coef):
    return PPO(
        num_updates=num_updates,
        epochs=4,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        kl_coef=kl_coef,
        gae_lambda=1.0,
        rollout=PPORollout(batch_size=192, max_tokens=1, normalize_scores=False),
    )


@pytest.mark.parametrize(
    "beta", [0.3, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (1.0, 3.0))]
)
def test_ppo_finds_the_optimal_policy(small, tmp_path, beta):
    score = score_by_token(REWARDS)
    train_ppo([PROMPT], small, tmp_path, ppo_config(60, beta), score=score, options=PLAIN)
    reference, policy = token_probabilities(small), token_probabilities(tmp_path)
    optimum = optimal_policy(reference, beta)
    assert total_variation(policy, optimum) < 0.03
    # the bound rejects the optimum of twice the penalty, unless the two are close
    wrong = optimal_policy(reference, 2 * beta)
    assert total_variation(policy, wrong) > 0.06 or total_variation(optimum, wrong) < 0.09


@pytest.mark.parametrize("bound", [pytest.param(0.05, marks=pytest.mark.slow), 0.25])
def test_ppo_constraint_is_met_at_the_optimum(small, tmp_path, bound):
    constraints = REWARDS.flip(0) * 0.8 - REWARDS * 0.6  # mostly against the reward
    constraint = ConstraintReward(score_by_token(constraints), bound)
    metrics = train_ppo(
        [PROMPT],
        small,
        tmp_path,
        ppo_config(100, 0.3),
        score=score_by_token(REWARDS),
        inputs=PPOInputs(constraint=constraint),
        options=PLAIN,
    )
    reference, policy = token_probabilities(small), token_probabilities(tmp_path)
    unconstrained = optimal_policy(reference, 0.3)
    assert float(unconstrained @ constraints) < bound - 0.2
    assert abs(float(policy @ constraints) - bound) < 0.05
    # the best policy that meets the constraint is that of the rewards which the multiplier combines
    weight = metrics["multiplier"]
    combined = (REWARDS + weight * constraints) / (1 + weight)
    assert total_variation(policy, optimal_policy(reference, 0.3, combined)) < 0.03
    assert float(policy @ REWARDS) < float(unconstrained @ REWARDS)


def preferences(count, scores, seed, label):
    """Draw comparisons of words, labeled by the Bradley-Terry model.

    Labels are ``hard`` outcomes or the ``soft`` probability. All have the same prompt, so each step
    reads every word once.
    """
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = rng.sample(WORDS[2:], 2)
        p = 1 / (1 + math.exp(scores[second] - scores[first]))
        p_first = p if label == "soft" else float(rng.random() < p)
        comparison = Comparison.of(PROMPT, first, second)
        rows.append(
            Preference(id=str(number), comparison=comparison, p_first=p_first, source="model")
        )
    return rows


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_dpo_finds_the_optimal_policy(small, tmp_path, beta):
    scores = {word: float(REWARDS[i]) for i, word in enumerate(WORDS)}
    config = DPO(epochs=150, batch_size=64, learning_rate=1e-2, beta=beta)
    labels = preferences(600, scores, 1, "soft")
    train_dpo(labels, small, tmp_path, config, options=PLAIN)
    # special tokens are never compared, so DPO leaves their probabilities undetermined
    reference, policy = token_probabilities(small)[2:], token_probabilities(tmp_path)[2:]
    optimum = optimal_policy(reference, beta, REWARDS[2:])
    assert total_variation(policy / policy.sum(), optimum) < 0.03


@pytest.mark.parametrize(("label", "count", "epochs"), [("soft", 800, 150), ("hard", 8000, 150)])
def test_reward_model_recovers_the_true_scores(small, tmp_path, label, count, epochs):
    rng = random.Random(3)
    true_scores = {word: rng.gauss(0, 1.2) for word in WORDS}
    config = Reward(epochs=epochs, batch_size=64, learning_rate=1e-2, eval_fraction=0.0)
    labels = preferences(count, true_scores, 2, label)
    train_reward(labels, small, tmp_path, config, options=PLAIN)
    scalar = load_scalar_model(str(tmp_path))
    words = WORDS[2:]
    scores = score_texts(scalar, [(PROMPT, word) for word in words]).double()
    expected = torch.tensor([true_scores[word] for word in words], dtype=torch.float64)
    differences, true_differences = (
        torch.combinations(values).diff(dim=1).squeeze(1) for values in (scores, expected)
    )
    correlation = torch.corrcoef(torch.stack([differences, true_differences]))[0, 1]
    assert float(correlation) > 0.99
    if label == "soft":
        # in the units of the training, differences are log-odds
        odds = differences * float(scalar.model.config.reward_std)
        assert float((odds.sigmoid() - true_differences.sigmoid()).abs().mean()) < 0.02
