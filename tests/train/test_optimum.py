"""Whole algorithms on problems whose answer is known.

One token is chosen out of a small vocabulary, each token has a known reward. The policy that is best under a KL penalty is
then ``p*(t) = p_ref(t) exp(r(t) / beta) / Z`` (arXiv 1909.08593, eq. 2; 2305.18290, eq. 4).
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
from cai.train.ppo.trainer import train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward

WORDS = ["<pad>", "<end>", *"abcdefghij"]
REWARDS = torch.linspace(-1, 1, len(WORDS))[torch.tensor([5, 3, 8, 0, 11, 2, 9, 6, 1, 10, 4, 7])]
ASK = Prompt.of("a b")


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
def chances(folder):
    """The probabilities of the next word after the prompt."""
    model, tokenizer = load_language_model(str(folder), dtype=torch.float32)
    return model(torch.tensor([tokenizer(ASK.text).input_ids])).logits[0, -1].softmax(-1)


def best(reference, beta):
    return (reference.log() + REWARDS / beta).softmax(-1)


def distance(one, other):
    """Total variation."""
    return float((one - other).abs().sum()) / 2


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_ppo_finds_the_best_policy_under_its_penalty(small, tmp_path, beta):
    def score(prompts, answers):
        return REWARDS[torch.tensor([answer[0] for answer in answers])]

    config = PPO(
        num_updates=90,
        epochs=4,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        kl_coef=beta,
        gae_lambda=1.0,
        rollout=PPORollout(batch_size=192, max_tokens=1),
    )
    train_ppo([ASK], small, "", tmp_path / "ppo", config, score=score, chat_format="plain")
    reference, found = chances(small), chances(tmp_path / "ppo")
    assert distance(found, best(reference, beta)) < 0.03
    # what a wrong penalty would find is told apart
    assert (
        distance(found, best(reference, 2 * beta)) > 0.06
        or distance(best(reference, beta), best(reference, 2 * beta)) < 0.09
    )


@pytest.mark.parametrize("min", [0.05, 0.25])
def test_a_guarded_reward_is_raised_as_far_as_its_guard_allows(small, tmp_path, least):
    constraints = REWARDS.flip(0) * 0.8 - REWARDS * 0.6  # mostly against the reward

    def told(values):
        return lambda prompts, answers: values[torch.tensor([answer[0] for answer in answers])]

    config = PPO(
        num_updates=150,
        epochs=4,
        learning_rate=1e-2,
        value_learning_rate=1e-2,
        kl_coef=0.3,
        gae_lambda=1.0,
        rollout=PPORollout(batch_size=192, max_tokens=1),
    )
    metrics = train_ppo(
        [ASK],
        small,
        "",
        tmp_path / "ppo",
        config,
        score=told(REWARDS),
        constraint=ConstraintReward(told(constraints), least),
        chat_format="plain",
    )
    reference, found = chances(small), chances(tmp_path / "ppo")
    mean = {
        name: float(best(reference, 0.3) @ values)
        for name, values in (("reward", REWARDS), ("constraint", constraints))
    }
    assert mean["constraint"] < least - 0.2  # without the constraint it would be broken
    assert abs(float(found @ constraints) - least) < 0.05
    # and of all policies that keep it this is the best: that of the mixture which the multiplier makes
    weight = metrics["multiplier"]
    aim = (reference.log() + (REWARDS + weight * constraints) / (1 + weight) / 0.3).softmax(-1)
    assert distance(found, aim) < 0.03 and float(found @ REWARDS) < mean["reward"]


def preferences(count, scores, seed, label):
    """Comparisons of words drawn evenly (all of one prompt, so each step reads every word once), labelled by Bradley and Terry's law: ``hard`` outcomes or the ``soft`` probability."""
    rng, made = random.Random(seed), []
    words = WORDS[2:]
    for number in range(count):
        one, other = rng.sample(words, 2)
        p = 1 / (1 + math.exp(scores[other] - scores[one]))
        p_first = p if label == "soft" else float(rng.random() < p)
        made.append(
            Preference(
                id=str(number),
                comparison=Comparison.of(ASK, one, other),
                p_first=p_first,
                source="law",
            )
        )
    return made


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_dpo_finds_the_same_policy_from_preferences_of_the_same_reward(small, tmp_path, beta):
    scores = {word: float(REWARDS[i]) for i, word in enumerate(WORDS)}
    config = DPO(epochs=150, batch_size=64, learning_rate=1e-2, beta=beta)
    train_dpo(
        preferences(600, scores, 1, "soft"),
        small,
        tmp_path / "dpo",
        config,
        options=TrainerOptions(chat_format="plain"),
    )
    # words that were never compared are left where the model puts them, so the compared ones are held against each other
    reference, found = chances(small)[2:], chances(tmp_path / "dpo")[2:]
    aim = (reference.log() + REWARDS[2:] / beta).softmax(-1)
    assert distance(found / found.sum(), aim) < 0.03


@pytest.mark.parametrize(("label", "count", "epochs"), [("soft", 800, 150), ("hard", 8000, 150)])
def test_a_reward_model_recovers_the_scores_behind_the_choices(
    small, tmp_path, label, count, epochs
):
    rng = random.Random(3)
    scores = {word: rng.gauss(0, 1.2) for word in WORDS}
    config = Reward(epochs=epochs, batch_size=64, learning_rate=1e-2, eval_fraction=0.0)
    train_reward(
        preferences(count, scores, 2, label),
        small,
        tmp_path / "reward",
        config,
        options=TrainerOptions(chat_format="plain"),
    )
    scalar = load_scalar_model(str(tmp_path / "reward"))
    words = WORDS[2:]
    found = score_texts(scalar, [(ASK, word) for word in words], "plain").double()
    spread = float(scalar.model.config.reward_std)
    aim = torch.tensor([scores[word] for word in words], dtype=torch.float64)
    differences = [torch.combinations(values).diff(dim=1).squeeze(1) for values in (found, aim)]
    assert float(torch.corrcoef(torch.stack(differences))[0, 1]) > 0.99
    if (
        label == "soft"
    ):  # calibrated: in the units it was trained in, the differences are the log-odds themselves
        said, true = (differences[0] * spread).sigmoid(), differences[1].sigmoid()
        assert float((said - true).abs().mean()) < 0.02
