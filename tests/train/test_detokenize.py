"""A reward model that tokenizes differently from the policy scores texts, not token ids."""

import json
import shutil

import pytest
import torch
from toy_data import BAD, GOOD, PROMPTS, preferences

from cai.config import PPO, PPORollout, Reward, Training
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer, same_tokenization
from cai.models.scalar import load_scalar_model
from cai.train.batching import tokenize
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import reward_scorer
from cai.train.ppo.trainer import train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward

PAIRS = list(zip(PROMPTS, (GOOD, BAD) * 9, strict=False))


@pytest.fixture(scope="module")
def foreign(tiny, tmp_path_factory):
    """A reward model whose tokenizer numbers the same words differently."""
    base = tmp_path_factory.mktemp("foreign") / "base"
    out = base.with_name("reward")
    shutil.copytree(tiny, base)
    core = json.loads((base / "tokenizer.json").read_text())
    vocabulary = core["model"]["vocab"]
    special = {token["id"] for token in core["added_tokens"]}
    words = [word for word, i in vocabulary.items() if i not in special]
    reversed_ids = [vocabulary[word] for word in reversed(words)]
    vocabulary.update(zip(words, reversed_ids, strict=True))
    (base / "tokenizer.json").write_text(json.dumps(core))
    config = Reward(epochs=10, batch_size=8, learning_rate=3e-3, eval_fraction=0)
    train_reward(preferences(), base, out, config)
    return str(out)


def token_ids(tokenizer, *, ended=True):
    """Token ids of the prompts and of the answers of all pairs."""
    chat = ChatFormat(tokenizer)
    rows = [tokenize(chat, prompt, answer, 500, ended=ended) for prompt, answer in PAIRS]
    return [row.prompt for row in rows], [row.answer for row in rows]


def test_foreign_reward_model_scores_the_texts(tiny, foreign):
    tokenizer, scalar = load_tokenizer(tiny), load_scalar_model(foreign)
    assert same_tokenization(tokenizer, load_tokenizer(tiny))
    assert not same_tokenization(tokenizer, scalar.tokenizer)
    prompts, answers = token_ids(tokenizer)
    scores = reward_scorer(foreign, detokenizer=Detokenizer(PROMPTS, tiny))(prompts, answers)
    expected = score_texts(scalar, PAIRS)
    assert torch.allclose(scores, expected, atol=1e-5)
    assert scores[::2].min() > scores[1::2].max()
    # read as the reward model's own, the ids are other words
    assert not torch.allclose(reward_scorer(foreign)(prompts, answers), expected, atol=0.1)


def test_retokenized_cut_off_answer_gets_no_end(tiny, foreign):
    tokenizer, scalar = load_tokenizer(tiny), load_scalar_model(foreign)
    prompts, answers = token_ids(tokenizer, ended=False)
    assert not any(tokenizer.eos_token_id in answer for answer in answers)
    scorer = reward_scorer(foreign, detokenizer=Detokenizer(PROMPTS, tiny))
    scores = scorer(prompts, answers)
    expected = reward_scorer(foreign)(*token_ids(scalar.tokenizer, ended=False))
    assert torch.allclose(scores, expected, atol=1e-5)
    assert not torch.allclose(scores, scorer(*token_ids(tokenizer)), atol=0.01)


def test_ppo_critic_starts_from_policy_if_tokens_differ(tiny, foreign, tmp_path):
    actor_critic = ActorCritic(tiny, PPO(), Training(), reward_model=foreign)
    policy = actor_critic.policy.model.base_model.state_dict()
    critic = actor_critic.critic.unwrapped.model.base_model.state_dict()
    assert all(torch.equal(weight, policy[name]) for name, weight in critic.items())
    config = PPO(num_updates=2, epochs=1, rollout=PPORollout(batch_size=8, max_tokens=8))
    metrics = train_ppo(PROMPTS, tiny, tmp_path, config, reward_model=foreign)
    assert metrics["num_updates"] == 2
    assert (tmp_path / "model.safetensors").is_file()
