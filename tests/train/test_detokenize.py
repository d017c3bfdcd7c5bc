"""A reward model with a tokenizer of its own reads what the policy says, not its token ids."""

import json
import shutil
from pathlib import Path

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


@pytest.fixture(scope="module")
def foreign(tiny, tmp_path_factory):
    """A reward model whose tokenizer has the same words under other numbers."""
    base = tmp_path_factory.mktemp("foreign") / "base"
    shutil.copytree(tiny, base)
    core = json.loads((base / "tokenizer.json").read_text())
    vocab, special = core["model"]["vocab"], {token["id"] for token in core["added_tokens"]}
    words = [word for word, i in vocab.items() if i not in special]
    vocab.update(dict(zip(words, [vocab[word] for word in reversed(words)], strict=True)))
    (base / "tokenizer.json").write_text(json.dumps(core))
    train_reward(
        preferences(),
        str(base),
        base.with_name("reward"),
        Reward(epochs=10, batch_size=8, learning_rate=3e-3, eval_fraction=0),
    )
    return str(base.with_name("reward"))


def rows(tokenizer, *, ended=True):
    chat = ChatFormat(tokenizer)
    found = [
        tokenize(chat, prompt, answer, 500, ended=ended)
        for prompt, answer in zip(PROMPTS, (GOOD, BAD) * 9, strict=False)
    ]
    return [row.prompt for row in found], [row.answer for row in found]


def test_foreign_reward_model_scores_the_texts(tiny, foreign):
    tokenizer, scalar = load_tokenizer(tiny), load_scalar_model(foreign)
    assert not same_tokenization(tokenizer, scalar.tokenizer) and same_tokenization(
        tokenizer, load_tokenizer(tiny)
    )
    texts = Detokenizer(PROMPTS, tiny)
    scores = reward_scorer(foreign, detokenizer=texts)(*rows(tokenizer))
    told = score_texts(scalar, list(zip(PROMPTS, (GOOD, BAD) * 9, strict=False)))
    assert torch.allclose(scores, told, atol=1e-5) and scores[::2].min() > scores[1::2].max()
    assert not torch.allclose(
        reward_scorer(foreign)(*rows(tokenizer)), told, atol=0.1
    )  # the ids say something else to it


def test_retokenized_cut_off_answer_gets_no_end(tiny, foreign):
    tokenizer, scalar = load_tokenizer(tiny), load_scalar_model(foreign)
    prompts, answers = rows(tokenizer, ended=False)
    assert not any(tokenizer.eos_token_id in answer for answer in answers)
    own = rows(scalar.tokenizer, ended=False)
    scores = reward_scorer(foreign, detokenizer=Detokenizer(PROMPTS, tiny))(prompts, answers)
    assert torch.allclose(scores, reward_scorer(foreign)(*own), atol=1e-5)
    assert not torch.allclose(
        scores,
        reward_scorer(foreign, detokenizer=Detokenizer(PROMPTS, tiny))(*rows(tokenizer)),
        atol=0.01,
    )


def test_ppo_critic_starts_from_policy_if_tokens_differ(tiny, foreign, tmp_path):
    actor_critic = ActorCritic(tiny, PPO(), Training(), reward_model=foreign)
    policy = dict(actor_critic.policy.model.base_model.named_parameters())
    assert all(
        torch.equal(weight, policy[name])
        for name, weight in actor_critic.critic.unwrapped.model.base_model.named_parameters()
    )
    config = PPO(num_updates=2, epochs=1, rollout=PPORollout(batch_size=8, max_tokens=8))
    metrics = train_ppo(PROMPTS, tiny, tmp_path / "ppo", config, reward_model=foreign)
    assert metrics["num_updates"] == 2 and (Path(tmp_path) / "ppo/model.safetensors").is_file()
