"""PPO with a KL penalty to the supervised model (arXiv 1909.08593, 2009.01325, 2203.02155; details in docs/method.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cai.config import PPO
from cai.errors import InputError
from cai.keys import digest, seed_for, shuffled
from cai.models.chat import ChatFormat
from cai.models.load import context_length, fingerprint, load_language_model
from cai.models.scalar import load_scalar_model
from cai.records import Prompt
from cai.rl.advantages import gae, shaped_rewards
from cai.rl.kl import KLController, k1
from cai.rl.losses import entropy, policy_loss, value_loss
from cai.rl.masked import masked_sum, masked_variance, whiten
from cai.train.batches import Answered
from cai.train.checkpoint import save
from cai.train.engine import Engine
from cai.train.resume import SAVE_EVERY, Resume
from cai.train.reward import score_rows
from cai.train.rollout import Rollout, Score, answer_values, predict, roll_out

Log = Callable[[dict[str, float]], None]
SCORE_LIMIT = 10.0
"""Scores are clipped to this many deviations of the reward model's training answers."""


class Targets(NamedTuple):
    """What the update of one rollout aims at, all ``[B, T]``."""

    advantages: Tensor
    returns: Tensor


def train_ppo(
    prompts: Sequence[Prompt], policy_name: str, reward_name: str, out: Path, config: PPO, *, score: Score | None = None,
    style: str = "", seed: int = 0, log: Log = lambda _: None, save_every: float = SAVE_EVERY,
) -> dict[str, float]:  # fmt: skip
    """Optimise a policy against a reward model (or any ``score`` function) and save it to ``out``.

    The reference of the KL penalty is the policy as it starts; the value model starts as a copy of the reward model.
    """
    policy, tokenizer = load_language_model(policy_name, dtype=torch.float32)
    reference, _ = load_language_model(policy_name, dtype=torch.float32)
    torch.manual_seed(seed_for(seed, "value head"))  # drawn where there is no reward model to start from
    value_model, _ = load_scalar_model(reward_name or policy_name, new_head=not reward_name)
    score = score or reward_scorer(reward_name)
    chat = ChatFormat(tokenizer, style)
    room = context_length(policy) - config.max_tokens
    tokenized = [ids for prompt in prompts if len(ids := chat.ids(chat.prompt(prompt.messages))) <= room]
    if not tokenized:
        raise InputError("there is no prompt to optimise on: none leaves room for ppo.max_tokens in the model's context")
    steps = config.updates * config.epochs * config.minibatches
    actor = Engine(policy, rate=config.rate, steps=steps)
    critic = Engine(value_model, rate=config.value_rate, steps=steps)
    controller = KLController(config.kl_coef, config.kl_target)
    engines = {"policy": actor, "value": critic}
    reward_from = fingerprint(reward_name) if reward_name else ""
    resume = Resume(out, ["ppo", fingerprint(policy_name), reward_from, config.model_dump(), style, seed, digest(tokenized)], save_every)
    kept = resume.load(engines)
    history: list[dict[str, float]] = kept.get("history", [])
    controller.coef = kept.get("kl_coef", controller.coef)
    for update, batch in enumerate(prompt_batches(len(tokenized), config, seed)):
        if update < len(history):
            continue
        rollout = roll_out(
            policy, reference, value_model, [tokenized[i] for i in batch], score,
            seeds=rollout_seeds(batch, seed, update), max_tokens=config.max_tokens, temperature=config.temperature,
            stop_ids=frozenset({int(tokenizer.eos_token_id)}), pad_id=int(tokenizer.pad_token_id), missing_eos_score=config.missing_eos_score,
        )  # fmt: skip
        row = describe(rollout, controller.coef)
        row |= update_models(actor, critic, rollout, targets_of(rollout, controller.coef, config), config, (seed, update))
        controller.update(row["kl"], len(batch))
        history.append(row)
        resume.save(update + 1, engines, history=history, kl_coef=controller.coef)
        log({"update": update + 1, "updates": config.updates, **row})
    save(actor.plain, tokenizer, out)
    resume.clear()
    edge = max(1, len(history) // 8)
    mean = {k: sum(row[k] for row in history[-edge:]) / edge for k in ("kl", "score", "length", "stopped")}
    before = sum(row["score"] for row in history[:edge]) / edge
    return {"reward_before": before, "reward_after": mean["score"], "kl": mean["kl"], "length": mean["length"], "stopped": mean["stopped"],
            "updates": len(history), "skipped_steps": actor.skipped + critic.skipped}  # fmt: skip


def prompt_batches(count: int, config: PPO, seed: int) -> Iterator[list[int]]:
    """The prompts of each update: passes over all of them in a keyed order."""
    order: list[int] = []
    for update in range(config.updates):
        while len(order) < config.batch_size:
            order += shuffled(range(count), seed, "ppo prompts", update, len(order))
        yield order[: config.batch_size]
        order = order[config.batch_size :]


def rollout_seeds(batch: Sequence[int], seed: int, update: int) -> list[int]:
    """A seed per row: of its prompt in this update, and of which time it is that the prompt stands in the batch."""
    times: Counter[int] = Counter()
    seeds = []
    for i in batch:
        seeds.append(seed_for(seed, "ppo", update, i, *([times[i]] if times[i] else [])))
        times[i] += 1
    return seeds


def reward_scorer(reward_name: str) -> Score:
    """Scores by a reward model that reads the policy's tokens."""
    scalar = load_scalar_model(reward_name)

    def score(prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        return score_rows(scalar, [Answered(p, a) for p, a in zip(prompts, answers, strict=True)])

    return score


def targets_of(rollout: Rollout, kl_coef: float, config: PPO) -> Targets:
    """Advantages, whitened over all valid tokens of the batch, and returns, taken before whitening."""
    scores = rollout.scores.clamp(-SCORE_LIMIT, SCORE_LIMIT)
    rewards = shaped_rewards(scores, rollout.logprobs, rollout.ref_logprobs, rollout.mask, kl_coef)
    advantages, returns = gae(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
    return Targets(whiten(advantages, rollout.mask), returns)


def update_models(
    actor: Engine, critic: Engine, rollout: Rollout, targets: Targets, config: PPO, key: tuple[object, ...]
) -> dict[str, float]:
    """``epochs`` passes over the rollout in ``minibatches`` each, a fresh permutation per pass; returns means of what was seen."""
    seen: list[dict[str, float]] = []
    count = len(rollout.ids)
    size = -(-count // config.minibatches)
    for epoch in range(config.epochs):
        order = torch.tensor(shuffled(range(count), *key, "epoch", epoch), device=rollout.ids.device)
        for rows in order.split(size):
            ids, attention, mask = rollout.ids[rows], rollout.attention[rows], rollout.mask[rows]
            predicted = predict(actor.plain, ids, attention, mask, config.temperature)
            surrogate = policy_loss(predicted.logprobs, rollout.logprobs[rows], targets.advantages[rows], mask, config.clip)
            values = answer_values(critic.model, ids, attention, rollout.prompt_length)
            error = value_loss(values, rollout.values[rows], targets.returns[rows], mask, config.clip)
            actor_norm, critic_norm = actor.step([surrogate.loss]), critic.step([error])
            seen.append(
                {
                    "policy_loss": surrogate.loss.item(), "value_loss": error.item(), "clip_share": surrogate.clip_share.item(),
                    "approx_kl": surrogate.approx_kl.item(), "entropy": entropy(predicted.logits.detach()).mean().item(),
                    "policy_grad_norm": actor_norm, "value_grad_norm": critic_norm,
                }
            )  # fmt: skip
    return {name: sum(row[name] for row in seen) / len(seen) for name in seen[0]} | {
        "explained_variance": explained_variance(rollout.values, targets.returns, rollout.mask)
    }


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 is a perfect critic, 0 one that only knows the mean."""
    spread = masked_variance(returns_BT, mask_BT)
    return float(1 - masked_variance(returns_BT - values_BT, mask_BT) / spread.clamp(min=1e-8))


def describe(rollout: Rollout, kl_coef: float) -> dict[str, float]:
    """The numbers of one rollout: mean score, KL per answer (summed over tokens), length, share that ended by itself."""
    kl = masked_sum(k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask) / len(rollout.ids)
    return {
        "score": float(rollout.scores.mean()), "score_std": float(rollout.scores.std(unbiased=False)), "kl": float(kl), "kl_coef": kl_coef,
        "length": float(rollout.lengths.float().mean()), "stopped": float(rollout.stopped.float().mean()),
    }  # fmt: skip
