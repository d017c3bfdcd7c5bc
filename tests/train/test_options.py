"""How a stage may be trained otherwise: adapters, recomputed activations, bfloat16, answers held against each other, a shared trunk."""

import math

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_data import BAD, GOOD, PROMPTS, preferences

from cai.config import DPO, PPO, SFT, Monitor, PPORollout, Reward, Training
from cai.errors import InputError
from cai.models.load import load_language_model
from cai.models.packing.layout import PromptGroup, pack
from cai.models.scalar import load_scalar_model
from cai.records import Prompt
from cai.rl.advantages import grpo_advantages, rloo_advantages
from cai.train.dpo import train_dpo
from cai.train.load import load_policy
from cai.train.lora import without_adapters
from cai.train.options import TrainerOptions
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.prompts import prompt_batches
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward
from cai.train.sft import train_sft

ROWS = [(prompt, GOOD) for prompt in PROMPTS]
LORA = Training(lora_rank=4, lora_alpha=8, precision="float32")


def weights(folder):
    return load_file(folder / "model.safetensors")


# -- adapters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "tiny_gpt2"])
def test_merged_lora_equals_peft(name, request, tmp_path):
    from peft import PeftModel

    base = request.getfixturevalue(name)
    train_sft(
        ROWS,
        base,
        tmp_path / "out",
        SFT(epochs=4, batch_size=8, learning_rate=1e-2),
        options=TrainerOptions(training=LORA),
    )
    merged, _ = load_language_model(str(tmp_path / "out"), dtype=torch.float32)
    plain, _ = load_language_model(base, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before, after = plain(ids).logits, merged(ids).logits
        adapted = PeftModel.from_pretrained(plain, tmp_path / "out" / "adapter")(ids).logits
    assert torch.allclose(after, adapted, atol=1e-4) and not torch.allclose(
        after, before, atol=1e-2
    )


def test_lora_trains_only_adapters(tiny, tmp_path):
    policy, _ = load_policy(tiny, LORA)
    trained = [name for name, p in policy.named_parameters() if p.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    metrics = train_sft(
        ROWS,
        tiny,
        tmp_path / "out",
        SFT(epochs=10, batch_size=8, learning_rate=2e-2),
        options=TrainerOptions(training=LORA),
    )
    assert metrics["loss_last"] < 0.6 * metrics["loss_first"]
    before, after = load_file(f"{tiny}/model.safetensors"), weights(tmp_path / "out")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)


def test_lora_reward_model_keeps_its_head(tiny, tmp_path):
    train_reward(
        preferences(),
        tiny,
        tmp_path / "r",
        Reward(epochs=6, batch_size=8, learning_rate=1e-2, eval_fraction=0.0),
        options=TrainerOptions(training=LORA),
    )
    scores = score_texts(
        load_scalar_model(str(tmp_path / "r")), [(PROMPTS[0], GOOD), (PROMPTS[0], BAD)]
    )
    assert scores[0] > scores[1] + 1


def test_lora_reference_is_the_policy_without_adapters(tiny):
    actor_critic = ActorCritic(tiny, PPO(), LORA)
    prompt_group = [PromptGroup([5, 6, 7], [[8, 9], [10]])]
    same = actor_critic.forward(prompt_group)
    assert actor_critic.reference is None and torch.allclose(same.logprobs, same.ref_logprobs)
    for name, parameter in actor_critic.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    moved = actor_critic.forward(prompt_group)
    assert torch.allclose(moved.ref_logprobs, same.ref_logprobs) and not torch.allclose(
        moved.logprobs, same.logprobs, atol=1e-2
    )
    with without_adapters(actor_critic.model):
        assert torch.allclose(
            actor_critic.policy(pack(actor_critic.model, prompt_group, 0))[0],
            load_logits(tiny, prompt_group),
            atol=1e-4,
        )


@torch.no_grad()
def load_logits(name, prompt_groups):
    model, _ = load_language_model(name, dtype=torch.float32)
    return torch.cat(
        [
            model(torch.tensor([t.prompt + a])).logits[0, len(t.prompt) - 1 : -1]
            for t in prompt_groups
            for a in t.answers
        ]
    )


def test_unknown_lora_target_is_an_error(tiny):
    with pytest.raises(
        InputError, match=r"none of query_proj is a linear layer; there are .*q_proj"
    ):
        load_policy(tiny, Training(lora_rank=2, lora_targets=("query_proj",)))


# -- the same, otherwise computed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        Training(gradient_checkpointing=True, precision="float32"),
        Training(micro_batch_tokens=30, precision="float32"),
    ],
)
def test_gradient_checkpointing_gives_the_same_weights(tiny, tmp_path, how):
    config = SFT(epochs=2, batch_size=8, learning_rate=1e-3)
    train_sft(
        ROWS,
        tiny,
        tmp_path / "plain",
        config,
        options=TrainerOptions(training=Training(precision="float32")),
    )
    train_sft(ROWS, tiny, tmp_path / "other", config, options=TrainerOptions(training=how))
    one, other = weights(tmp_path / "plain"), weights(tmp_path / "other")
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_gradient_checkpointing_recomputes_activations(tiny, monkeypatch):
    policy, _ = load_policy(tiny, Training(gradient_checkpointing=True, precision="float32"))
    policy.train()
    layer, calls = policy.model.model.layers[0].mlp, []
    layer.register_forward_pre_hook(lambda *_: calls.append(1))
    policy(pack(policy.model, [PromptGroup([5, 6], [[7]])], 0))[0].sum().backward()
    assert len(calls) == 2


def test_ppo_gradient_checkpointing(tiny):
    actor_critic = ActorCritic(
        tiny, PPO(), Training(gradient_checkpointing=True, precision="float32")
    )
    actor_critic.generate([[5, 6, 7]], max_tokens=4, temperature=0.0, seeds=[0])
    for module, options in (
        (actor_critic.actor.model, {}),
        (actor_critic.critic.model, {"values": True}),
    ):
        calls = []
        module.model.model.layers[0].mlp.register_forward_pre_hook(
            lambda *_, calls=calls: calls.append(1)
        )
        found = module(actor_critic.pack([PromptGroup([5, 6], [[7]])]), **options)
        (found if options else found[0]).sum().backward()
        assert len(calls) == 2


def test_bfloat16_keeps_float32_weights(tiny, tmp_path):
    config, losses = SFT(epochs=8, batch_size=8, learning_rate=5e-3), {}
    for precision in ("float32", "bfloat16"):
        losses[precision] = train_sft(
            ROWS,
            tiny,
            tmp_path / precision,
            config,
            options=TrainerOptions(training=Training(precision=precision)),
        )["loss_last"]
        assert all(w.dtype == torch.float32 for w in weights(tmp_path / precision).values())
    assert losses["float32"] != losses["bfloat16"] and losses["bfloat16"] == pytest.approx(
        losses["float32"], rel=0.2
    )
    metrics = train_ppo(
        PROMPTS,
        tiny,
        tmp_path / "p",
        PPO(num_updates=2, learning_rate=1e-3, rollout=PPORollout(batch_size=6, max_tokens=5)),
        score=long_ones,
        options=TrainerOptions(training=Training(precision="bfloat16")),
    )
    assert metrics["num_updates"] == 2 and math.isfinite(metrics["kl"])


# -- PPO's relatives ---------------------------------------------------------------------------------------------------


def long_ones(prompts, answers):
    return torch.tensor([float(len(answer)) for answer in answers])


def test_rloo_and_grpo_advantages_against_loops():
    returns = torch.tensor([1.0, 2.0, 6.0, -1.0, 0.0, 4.0])
    expected = [
        returns[i] - sum(returns[j] for j in range(i - i % 3, i - i % 3 + 3) if j != i) / 2
        for i in range(6)
    ]
    assert torch.allclose(rloo_advantages(returns, 3), torch.stack(expected))
    groups = [returns[:3], returns[3:]]
    assert torch.allclose(
        grpo_advantages(returns, 3), torch.cat([(g - g.mean()) / (g.std() + 1e-4) for g in groups])
    )
    assert torch.equal(grpo_advantages(torch.ones(4), 2), torch.zeros(4))


def test_rloo_and_grpo_advantages_of_known_returns():
    returns = torch.tensor([1.0, 99.0, 6.0, -1.0, 99.0, 99.0, 99.0, 99.0, 99.0])
    known = returns < 99
    assert rloo_advantages(returns, 3, known).tolist() == [-5.0, 0.0, 5.0] + [0.0] * 6
    pair = (returns[[0, 2]] - 3.5) / (returns[[0, 2]].std() + 1e-4)
    expected = torch.tensor([pair[0], 0.0, pair[1], *[0.0] * 6])
    assert torch.allclose(grpo_advantages(returns, 3, known), expected)
    returns[~known] = float("nan")
    assert (
        torch.allclose(grpo_advantages(returns, 3, known), expected)
        and rloo_advantages(returns, 3, known).isfinite().all()
    )


def test_prompt_batches_repeat_prompts_in_a_row():
    batches = list(
        prompt_batches(
            6,
            PPO(
                num_updates=3, method="rloo", rollout=PPORollout(batch_size=8, samples_per_prompt=4)
            ),
            0,
        )
    )
    assert all(
        len(batch) == 8 and len(set(batch[:4])) == len(set(batch[4:])) == 1 for batch in batches
    )
    assert sorted(i for batch in batches for i in batch[::4]) == list(range(6))
    with pytest.raises(ValueError, match="samples_per_prompt"):
        PPO(method="rloo")
    with pytest.raises(ValueError, match="samples_per_prompt"):
        PPORollout(samples_per_prompt=3, batch_size=8)


CONFIG = {
    "num_updates": 16,
    "epochs": 2,
    "learning_rate": 2e-3,
    "value_learning_rate": 3e-3,
    "kl_coef": 0.02,
    "rollout": {"batch_size": 24, "max_tokens": 10},
}
FOUR_SAMPLES = {"batch_size": 24, "max_tokens": 10, "samples_per_prompt": 4}


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ({"method": "rloo", "rollout": FOUR_SAMPLES}, Training()),
        ({"method": "grpo", "rollout": FOUR_SAMPLES}, Training()),
        ({"critic": "head"}, Training()),
        ({"critic": "head", "learning_rate": 1e-2}, Training(lora_rank=8, lora_alpha=16)),
    ],
)
def test_rloo_grpo_and_value_head_learn(both_ways, glad, tmp_path, more, how):
    metrics = train_ppo(
        PROMPTS,
        both_ways,
        tmp_path / "p",
        PPO(**(CONFIG | more)),
        score=glad,
        options=TrainerOptions(training=how),
    )
    assert metrics["reward_before"] < 0.75 and metrics["reward_after"] > 0.8 and metrics["kl"] < 4


def test_value_head_starts_at_zero(tiny):
    actor_critic = ActorCritic(tiny, PPO(critic="head"), Training())
    assert actor_critic.critic is None and torch.equal(
        actor_critic.forward([PromptGroup([5, 6], [[7, 8]])]).values, torch.zeros(2)
    )
    assert ActorCritic(
        tiny, PPO(method="rloo", rollout=PPORollout(samples_per_prompt=2)), Training()
    ).engines.keys() == {"policy"}


def test_ptx_keeps_the_fine_tuning_rows(both_ways, glad, tmp_path):
    """PPO alone may drift wherever the reward lets it; the loss on remembered rows holds it."""
    kept = [(Prompt.of("Say it again."), "Have a lovely day. Then check the boat twice.")] * 8
    losses = {}
    for coef in (0.0, 1.0):
        config = PPO(**(CONFIG | {"num_updates": 8, "ptx_coef": coef}))
        rows = []
        train_ppo(
            PROMPTS,
            both_ways,
            tmp_path / str(coef),
            config,
            score=glad,
            inputs=PPOInputs(ptx_examples=kept),
            options=TrainerOptions(log=rows.append),
        )
        assert ("ptx_loss" in rows[0]) == bool(coef)
        from cai.evaluate.likelihood import answer_logprobs

        losses[coef] = -answer_logprobs(str(tmp_path / str(coef)), kept[:1])[0][0]
    assert losses[1.0] < 0.5 * losses[0.0]


def test_target_kl_skips_remaining_epochs(both_ways, glad, tmp_path):
    rows = {}
    for limit in (None, 1e-9):
        rows[limit] = []
        config = PPO(
            **(CONFIG | {"num_updates": 2, "epochs": 4, "num_minibatches": 2, "target_kl": limit})
        )
        train_ppo(
            PROMPTS,
            both_ways,
            tmp_path / str(limit),
            config,
            score=glad,
            options=TrainerOptions(log=rows[limit].append),
        )
    assert [row["steps"] for row in rows[None]] == [8, 8] and [
        row["steps"] for row in rows[1e-9]
    ] == [2, 2]


# -- watching ----------------------------------------------------------------------------------------------------------


def test_monitor_keeps_the_best_policy_by_gold(both_ways, glad, tmp_path):
    """The score likes one sentence; gold does too, up to the second look, and then it turns."""
    turns = iter([0.2, 0.9, 0.5, 0.3, 0.2])
    said = []

    def gold(answers):
        said.append(len(answers))
        return [next(turns)] * len(answers)

    monitor = Monitor(eval_every=4, eval_prompts=6, keep="best")
    rows = []
    metrics = train_ppo(
        PROMPTS[6:],
        both_ways,
        tmp_path / "p",
        PPO(**CONFIG),
        score=glad,
        inputs=PPOInputs(monitor=monitor, eval_prompts=PROMPTS[:8], gold=gold),
        options=TrainerOptions(log=rows.append),
    )
    assert (
        said == [6] * 5
        and metrics["best_update"] == 4
        and [evaluate["update"] for evaluate in metrics["eval_points"]] == [0, 4, 8, 12, 16]
    )
    assert [row["update"] for row in rows if "eval_gold" in row] == [4, 8, 12, 16]
    assert not (tmp_path / "p.best").exists()
    short = train_ppo(
        PROMPTS[6:],
        both_ways,
        tmp_path / "q",
        PPO(**CONFIG),
        score=glad,
        inputs=PPOInputs(monitor=Monitor()),
        options=TrainerOptions(log=lambda _: None),
    )
    assert short["num_updates"] == 16 and not torch.equal(
        weights(tmp_path / "p")["model.norm.weight"], weights(tmp_path / "q")["model.norm.weight"]
    )


@pytest.mark.parametrize(
    ("monitor", "reason"),
    [
        ({"max_kl": 1e-3}, "KL above 0.001 nats"),
        ({"min_entropy": 9.0}, "entropy below 9 nats"),
        ({"min_unique_fraction": 1.0}, "fewer than 100%"),
    ],
)
def test_monitor_limit_stops_the_training(both_ways, glad, tmp_path, monitor, reason):
    settings = Monitor(eval_every=1, eval_prompts=4, patience=2, **monitor)
    metrics = train_ppo(
        PROMPTS,
        both_ways,
        tmp_path / "p",
        PPO(**CONFIG),
        score=glad,
        inputs=PPOInputs(monitor=settings, eval_prompts=PROMPTS[:4]),
    )
    assert metrics["stopped_by"].startswith(reason) and 2 <= metrics["num_updates"] < 16
    assert sum(metrics["alarms"].values()) >= 2 and (tmp_path / "p/model.safetensors").is_file()


def test_monitor_warnings(tiny, tmp_path):
    rows = []
    metrics = train_ppo(
        PROMPTS[:1],
        tiny,
        tmp_path / "p",
        PPO(num_updates=2, rollout=PPORollout(batch_size=1, max_tokens=3)),
        score=lambda p, a: torch.ones(len(a)),
        options=TrainerOptions(log=rows.append),
    )
    assert (
        "all answers have the same score" in rows[0]["alarm"]
        and metrics["alarms"]["all answers have the same score"] == 2
    )
    assert all(
        math.isfinite(value) for row in rows for name, value in row.items() if name != "alarm"
    )


def test_dpo_with_adapters(tiny, tmp_path):
    metrics = train_dpo(
        preferences(),
        tiny,
        tmp_path / "d",
        DPO(epochs=6, batch_size=8, learning_rate=1e-2),
        options=TrainerOptions(training=LORA),
    )
    assert metrics["loss_last"] < 0.5 * math.log(2)


def test_model_card(tiny, tmp_path):
    metrics = train_sft(
        ROWS,
        tiny,
        tmp_path / "out",
        SFT(epochs=1, batch_size=8, learning_rate=1e-3),
        options=TrainerOptions(training=LORA),
    )
    card = (tmp_path / "out/README.md").read_text()
    assert (
        f"| loss last | {metrics['loss_last']:.4g} |" in card
        and '"lora_rank": 4' in card
        and "adapter/" in card
    )
    _, front, text = card.split("---\n", 2)
    assert (
        yaml.safe_load(front)["pipeline_tag"] == "text-generation"
        and "AutoModelForCausalLM.from_pretrained" in text
    )
