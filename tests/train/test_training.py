"""The training stages learn what is planted, and nothing else."""

import json
import math

import pytest
import torch

from cai.config import PPO, SFT, PPORollout, Reward, Training
from cai.errors import InputError, RunFailed
from cai.models.chat_template.format import ChatFormat
from cai.models.decode import decode
from cai.models.load import load_language_model, load_tokenizer
from cai.models.packing.layout import pack_rows
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Preference, Prompt
from cai.rl.losses import policy_loss, token_logprobs
from cai.train.batching import epoch_batches, tokenize
from cai.train.engine import Engine, StepLoss
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.rollout import collect_rollout, prompt_groups_of
from cai.train.ppo.trainer import compute_targets, prompt_batches, train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

PROMPTS = [
    Prompt.of(f"{verb} the {thing}.")
    for verb in ("Wash", "Draw", "Feed", "Report", "Buy", "Read")
    for thing in ("dog", "boat", "letter", "lamp", "tree", "rose")
]
GOOD, BAD = "I am glad to help.", "You are a fool."


def test_end_of_turn_is_learnt_and_the_prompt_is_not(tiny):
    tokenizer = load_tokenizer(tiny)
    row = tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 100)
    assert (
        row.answer[-1] == tokenizer.eos_token_id
        and tokenizer.decode(row.answer) == " I am glad to help.<|end|>"
    )
    assert tokenizer.decode(row.prompt) == "<|user|> Wash the dog.<|end|><|assistant|>"
    other = tokenize(ChatFormat(tokenizer), PROMPTS[1], "Yo.", 100)
    packed = pack_rows(
        [row.prompt_group, other.prompt_group], tokenizer.pad_token_id, torch.device("cpu")
    )
    assert (
        packed.lengths().tolist() == [len(row.answer), 3]
        and packed.attention.sum(1)[1] == len(other.prompt) + 3
    )
    assert packed.targets.tolist() == row.answer + other.answer
    assert tokenize(ChatFormat(tokenizer), PROMPTS[0], GOOD, 10) is None


def test_every_row_once_per_epoch_in_a_keyed_order():
    lengths = [3, 9, 4, 4, 8, 1, 7]
    batches = list(epoch_batches(lengths, 3, 0, "x"))
    assert sorted(i for b in batches for i in b) == list(range(7)) and batches == list(
        epoch_batches(lengths, 3, 0, "x")
    )
    assert batches != list(epoch_batches(lengths, 3, 1, "x"))


def test_sft_learns_the_answers_and_is_the_same_twice(tiny, tmp_path):
    rows = [(p, GOOD) for p in PROMPTS]
    config = SFT(epochs=14, batch_size=8, learning_rate=5e-3)
    metrics = train_sft(rows, tiny, tmp_path / "a", config)
    again = train_sft(rows, tiny, tmp_path / "b", config)
    assert metrics == again and metrics["loss_last"] < 0.3 < metrics["loss_first"]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()
    model, tokenizer = load_language_model(str(tmp_path / "a"))
    ids = torch.tensor(
        [
            ChatFormat(tokenizer).ids(
                ChatFormat(tokenizer).prompt(Prompt.of("Paint the roof.").messages)
            )
        ]
    )
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )
    assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip() == GOOD


def test_nothing_to_train_on_is_said(tiny, tmp_path):
    with pytest.raises(InputError, match="no rows to fine-tune on"):
        train_sft([], tiny, tmp_path / "a", SFT())
    with pytest.raises(InputError, match="no labeled pair"):
        train_reward([], tiny, tmp_path / "a", Reward())


def preferences(p_first=1.0, source="ai"):
    return [
        Preference(
            id=f"{i}", comparison=Comparison.of(p, GOOD, BAD), p_first=p_first, source=source
        )
        for i, p in enumerate(PROMPTS)
    ]


def test_reward_model_learns_hard_labels(tiny, tmp_path):
    metrics = train_reward(
        preferences(),
        tiny,
        tmp_path / "r",
        Reward(epochs=3, batch_size=8, learning_rate=5e-3, eval_fraction=0.2),
    )
    assert metrics["eval_pairs"] > 0 and metrics["eval_accuracy"] == 1.0
    scalar = load_scalar_model(str(tmp_path / "r"))
    scores = score_texts(
        scalar, [(Prompt.of("Paint the roof."), GOOD), (Prompt.of("Paint the roof."), BAD)]
    )
    assert scores[0] > scores[1]
    spread = score_texts(scalar, [(p, t) for p in PROMPTS for t in (GOOD, BAD)])
    assert abs(spread.mean()) < 0.2 and abs(spread.std() - 1) < 0.2


def test_a_reward_model_of_a_reward_model_is_normalised_by_itself(tiny, tmp_path):
    """What the base was normalised by is no part of the new scores, nor of what the labels are learnt on."""
    config = Reward(epochs=3, batch_size=8, learning_rate=5e-3, eval_fraction=0.0)
    train_reward(preferences(), tiny, tmp_path / "first", config)
    path = tmp_path / "first/config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"reward_mean": 5.0, "reward_std": 4.0})
    )
    train_reward(
        preferences(0.7),
        str(tmp_path / "first"),
        tmp_path / "second",
        config.model_copy(update={"epochs": 12}),
    )
    scalar = load_scalar_model(str(tmp_path / "second"))
    scores = score_texts(scalar, [(p, t) for p in PROMPTS for t in (GOOD, BAD)])
    assert scores.mean() == pytest.approx(0, abs=0.01) and scores.std() == pytest.approx(
        1, abs=0.01
    )
    lead = float(scores[0] - scores[1]) * scalar.model.config.reward_std
    assert lead == pytest.approx(math.log(0.7 / 0.3), abs=0.15)


def test_reward_model_learns_soft_labels_as_log_odds(tiny, tmp_path):
    train_reward(
        preferences(0.7),
        tiny,
        tmp_path / "r",
        Reward(epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0),
    )
    scalar = load_scalar_model(str(tmp_path / "r"))
    scores = (
        score_texts(scalar, [(PROMPTS[0], GOOD), (PROMPTS[0], BAD)])
        * scalar.model.config.reward_std
    )
    assert float(scores[0] - scores[1]) == pytest.approx(math.log(0.7 / 0.3), abs=0.1)


def test_training_never_reads_where_a_label_came_from(tiny, tmp_path):
    for source in ("ai", "human"):
        train_reward(preferences(source=source), tiny, tmp_path / source, Reward(batch_size=8))
    assert (tmp_path / "ai/model.safetensors").read_bytes() == (
        tmp_path / "human/model.safetensors"
    ).read_bytes()


def test_unlabelled_preferences_are_counted_not_learnt(tiny, tmp_path):
    unscored = Preference(
        id="u", comparison=Comparison.of(PROMPTS[0], BAD, GOOD), status="unscored", source="ai"
    )
    metrics = train_reward(
        [*preferences(), unscored], tiny, tmp_path / "r", Reward(batch_size=8, eval_fraction=0.0)
    )
    assert metrics["dropped_unlabeled"] == 1 and metrics["pairs"] == len(PROMPTS)


# -- PPO ---------------------------------------------------------------------------------------------------------------

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
    actor_critic = ActorCritic(tiny, "", PPO(rollout=PPORollout(temperature=0.9)), Training(), 0)
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


def test_ppo_raises_a_planted_reward_within_bounded_kl(tiny, tmp_path):
    """A policy that says one of two sentences, half of the time each, learns to say the one that scores."""
    both = [(p, text) for p in PROMPTS for text in (GOOD, BAD)]
    train_sft(both, tiny, tmp_path / "start", SFT(epochs=10, batch_size=8, learning_rate=5e-3))
    tokenizer = load_tokenizer(tiny)

    def score(prompts, answers):
        return torch.tensor([float(tokenizer.decode(a).startswith(" I am glad")) for a in answers])

    rows = []
    metrics = train_ppo(
        PROMPTS, str(tmp_path / "start"), "", tmp_path / "p", CONFIG, score=score, log=rows.append
    )
    assert metrics["reward_before"] < 0.7 and metrics["reward_after"] > 0.8
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-3) and metrics["kl"] < 3
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


def test_a_gradient_that_is_not_finite_never_reaches_the_weights():
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    engine = Engine(model, learning_rate=0.1, steps=100)
    before = [p.clone() for p in model.parameters()]
    for _ in range(4):
        engine.step([lambda: StepLoss(model(torch.full((1, 2), float("nan"))).sum())])
    assert engine.skipped == 4 and all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )
    engine.step([lambda: StepLoss(model(torch.ones(1, 2)).sum())])
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(RunFailed, match="diverged"):
        for _ in range(5):
            engine.step([lambda: StepLoss(model(torch.full((1, 2), float("nan"))).sum())])
    assert all(torch.isfinite(p).all() for p in model.parameters())
