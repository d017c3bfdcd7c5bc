"""PPO with a KL penalty to the supervised model (arXiv 1909.08593, 2009.01325, 2203.02155; details in docs/explanation/training.md)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.config import PPO, Monitor, Training
from cai.errors import InputError
from cai.keys import digest, seed_for, shuffled
from cai.models.chat_template.format import ChatFormat
from cai.models.load import context_length, fingerprint
from cai.models.packing.layout import PackedBatch
from cai.records import Prompt
from cai.rl.advantages import gae, grpo_advantages, rloo_advantages, shaped_rewards
from cai.rl.constraint import LagrangeMultiplier
from cai.rl.kl import KLController, k1
from cai.rl.losses import (
    ValueLoss,
    entropy,
    language_model_loss,
    policy_loss,
    token_logprobs,
    value_loss,
)
from cai.rl.masked import masked_sum, masked_variance, whiten
from cai.train.batching import TokenizedExample, rows_key, tokenize
from cai.train.engine import StepLoss
from cai.train.load import micro_batch_tokens_of
from cai.train.loop import Log, MicroBatch, micro_batches
from cai.train.model_card import model_card
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.monitor import GoldReward, TrainingMonitor
from cai.train.ppo.rewards import (
    ConstraintReward,
    Ensemble,
    ScoreFunction,
    ScoreScale,
    reward_scorer,
)
from cai.train.ppo.rollout import Rollout, collect_rollout, prompt_groups_of
from cai.train.resume import SAVE_EVERY, Resume

VALUE_SHARE = 0.1
"""Weight of the value loss where policy and critic share a trunk (arXiv 2203.02155 and its followers)."""
Rows = Sequence[tuple[Prompt, str]]


class Targets(NamedTuple):
    """What the update of one rollout aims at, all ``[B, T]``; 0 for the answers that have no score."""

    advantages: Tensor
    returns: Tensor


def train_ppo(
    prompts: Sequence[Prompt],
    policy_name: str,
    reward_name: str,
    out: Path,
    config: PPO,
    *,
    score: ScoreFunction | None = None,
    training: Training | None = None,
    monitor: Monitor | None = None,
    eval_prompts: Sequence[Prompt] = (),
    gold: GoldReward | None = None,
    ptx_examples: Rows = (),
    constraint: ConstraintReward | None = None,
    chat_format: str = "",
    seed: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, Any]:
    """Optimise a policy against a reward model (or any ``score`` function) and save it to ``out``.

    The reference of the KL penalty is the policy as it starts; a value model starts as a copy of the reward model, or, where that
    reads other tokens, of the policy. ``ptx_examples`` are the rows of PPO-ptx. ``eval_prompts`` prompts are looked at, and by ``gold``
    too, as ``monitor`` says, which may also end the training; the result then says why (``stopped_by``). The mean of a ``constraint`` is
    held at its bound while the score is raised. Nothing is learnt from an answer that the score gives None for; such answers are
    counted (``unread``).
    """
    training, monitor = training or Training(), monitor or Monitor()
    actor_critic = ActorCritic(policy_name, reward_name, config, training, seed, chat_format)
    score = score or reward_scorer(
        reward_name, texts=Detokenizer([*prompts, *eval_prompts], policy_name, chat_format)
    )
    chat, tokens = (
        ChatFormat(actor_critic.tokenizer, chat_format),
        micro_batch_tokens_of(training, actor_critic.model),
    )
    tokenized = tokenize_prompts(
        prompts, chat, context_length(actor_critic.model) - config.rollout.max_tokens
    )
    ptx_rows = [
        row
        for prompt, answer in ptx_examples
        if (row := tokenize(chat, prompt, answer, context_length(actor_critic.model)))
    ]
    training_monitor = TrainingMonitor(
        monitor, actor_critic, eval_prompts, chat, score, gold, config, seed, policy_name, out
    )
    controller, multiplier = (
        KLController(config.kl_coef, config.adaptive_kl_target),
        LagrangeMultiplier(constraint.min if constraint else 0.0),
    )
    scales = [
        ScoreScale.of(function, config)
        for function in (score, *([constraint.score] if constraint else []))
    ]
    models = [
        fingerprint(policy_name),
        fingerprint(reward_name) if reward_name else "",
        *(constraint[1:] if constraint else []),
    ]
    settings = [config.model_dump(), training.model_dump(), monitor.model_dump(), chat_format, seed]
    resume = Resume(
        out, ["ppo", *models, *settings, digest(tokenized), rows_key(ptx_rows)], save_every
    )
    kept = resume.load(actor_critic.engines)
    history: list[dict[str, float]] = kept.get("history", [])
    controller.coef = kept.get("kl_coef", controller.coef)
    multiplier.value, multiplier.recent = kept.get("multiplier", (multiplier.value, []))
    for scale, offset in zip(scales, kept.get("offsets", []), strict=False):
        scale.offset = offset
    training_monitor.restore(kept)
    if not history:
        training_monitor.evaluate(0)
    for update, batch in enumerate(prompt_batches(len(tokenized), config, seed)):
        if update < len(history):
            continue
        if training_monitor.stop:
            break
        started = time.monotonic()
        rollout = collect_rollout(
            actor_critic,
            [tokenized[i] for i in batch],
            score,
            seeds=rollout_seeds(batch, seed, update),
            max_tokens=config.rollout.max_tokens,
            missing_eos_score=config.rollout.missing_eos_score,
            tokens=tokens,
            constraint=constraint.score if constraint else None,
        )
        answered = time.monotonic()
        metrics = describe(rollout, controller.coef)
        if isinstance(score, Ensemble) and score.spread is not None:
            metrics["score_spread"] = score.spread
        rollout, told = rewarded(rollout, scales, multiplier)
        metrics |= told
        metrics |= Update(
            actor_critic,
            rollout,
            compute_targets(rollout, controller.coef, config),
            ptx_rows,
            config,
            tokens,
        ).run((seed, update))
        took = {
            "rollout_seconds": answered - started,
            "update_seconds": time.monotonic() - answered,
        }
        controller.update(metrics["kl"], len(batch))
        history.append(metrics)
        seen = training_monitor.after(update + 1, history)
        resume.save(
            update + 1,
            actor_critic.engines,
            history=history,
            kl_coef=controller.coef,
            multiplier=(multiplier.value, multiplier.recent),
            offsets=[scale.offset for scale in scales],
            **training_monitor.state(),
        )
        log({"update": update + 1, "num_updates": config.num_updates, **metrics, **took, **seen})
    metrics = summary(history, actor_critic) | training_monitor.summary()
    training_monitor.publish(model_card("ppo", policy_name, config, training, metrics))
    resume.clear()
    return metrics


def tokenize_prompts(prompts: Sequence[Prompt], chat: ChatFormat, room: int) -> list[list[int]]:
    """The token ids of the prompts that have no more than ``room`` of them."""
    found = [
        ids for prompt in prompts if len(ids := chat.ids(chat.prompt(prompt.messages))) <= room
    ]
    if not found:
        raise InputError(
            "there is no prompt to optimise on: none leaves room for ppo.max_tokens in the model's context"
        )
    return found


def rewarded(
    rollout: Rollout, scales: Sequence[ScoreScale], multiplier: LagrangeMultiplier
) -> tuple[Rollout, dict[str, float]]:
    """The rollout with its scores as they are learnt from, those of a guard among them, and the figures of the guard.

    ``scales`` are that of the score and, where there is a guard, that of the guard; its multiplier is moved on.
    """
    scores = scales[0].apply(rollout.scores, rollout)
    if len(scales) == 1:
        return rollout._replace(scores=scores), {}
    known = rollout.constraints[rollout.scored]
    if len(known):
        multiplier.update(known.tolist())
    metrics = {"constraint": float(known.mean())} if len(known) else {}
    mixed = multiplier.combine(scores, scales[1].apply(rollout.constraints, rollout))
    return rollout._replace(scores=mixed), metrics | {"multiplier": multiplier.value}


def summary(history: Sequence[dict[str, float]], actor_critic: ActorCritic) -> dict[str, float]:
    """The figures of the whole: means over the first and the last eighth of the updates; what nothing is known of is left out."""
    label = max(1, len(history) // 8)
    first, last = history[:label], history[-label:]
    metrics = {
        "reward_before": _known_mean(first, "score"),
        "reward_after": _known_mean(last, "score"),
        **{name: _known_mean(last, name) for name in ("kl", "length", "stopped")},
        "num_updates": len(history),
        "skipped_steps": sum(engine.skipped for engine in actor_critic.engines.values()),
        "unread": int(sum(row["unread"] for row in history)),
        "constraint": _known_mean(last, "constraint"),
        "multiplier": history[-1].get("multiplier"),
    }
    return {name: value for name, value in metrics.items() if value is not None}


def prompt_batches(count: int, config: PPO, seed: int) -> Iterator[list[int]]:
    """The prompts of each update, ``samples`` times each in a run: passes over all of them in a keyed order."""
    order: list[int] = []
    size = config.rollout.batch_size // config.rollout.samples_per_prompt
    for update in range(config.num_updates):
        while len(order) < size:
            order += shuffled(range(count), seed, "ppo prompts", update, len(order))
        yield [i for i in order[:size] for _ in range(config.rollout.samples_per_prompt)]
        order = order[size:]


def rollout_seeds(batch: Sequence[int], seed: int, update: int) -> list[int]:
    """A seed per row: of its prompt in this update, and of which time it is that the prompt stands in the batch."""
    times: Counter[int] = Counter()
    seeds = []
    for i in batch:
        seeds.append(seed_for(seed, "ppo", update, i, *([times[i]] if times[i] else [])))
        times[i] += 1
    return seeds


def compute_targets(rollout: Rollout, kl_coef: float, config: PPO) -> Targets:
    """Advantages and returns. GAE's advantages are whitened over all tokens that are learnt, its returns taken before that."""
    learnt = rollout.learnt
    rewards = shaped_rewards(
        rollout.scores, rollout.logprobs, rollout.ref_logprobs, learnt, kl_coef
    )
    if config.method == "ppo":
        advantages, returns = gae(rewards, rollout.values, learnt, config.gamma, config.gae_lambda)
        return Targets(whiten(advantages, learnt), returns)
    against = {"rloo": rloo_advantages, "grpo": grpo_advantages}[config.method]
    advantages = (
        against(rewards.sum(1), config.rollout.samples_per_prompt, rollout.scored).unsqueeze(1)
        * learnt
    )
    return Targets(advantages, torch.zeros_like(advantages))


class Update:
    """The update of the models on the answers of one rollout that have a score."""

    def __init__(
        self,
        actor_critic: ActorCritic,
        rollout: Rollout,
        targets: Targets,
        ptx_rows: Sequence[TokenizedExample],
        config: PPO,
        tokens: int,
    ) -> None:
        self.actor_critic, self.rollout, self.targets, self.ptx_rows = (
            actor_critic,
            rollout,
            targets,
            ptx_rows,
        )
        self.config, self.tokens = config, tokens
        self.lengths = rollout.lengths.tolist()
        self.sizes = [
            len(trajectory.prompt) + len(trajectory.answer) for trajectory in rollout.trajectories
        ]

    def run(self, key: tuple[object, ...]) -> dict[str, float]:
        """``epochs`` passes over the rollout in ``minibatches`` each, a fresh permutation per pass; returns means of what was seen."""
        seen: list[dict[str, float]] = []
        rows = self.rollout.scored.nonzero().flatten().tolist()
        if not rows:
            return {"steps": 0.0}
        size = -(-len(rows) // self.config.num_minibatches)
        for epoch in range(self.config.epochs):
            order = shuffled(rows, *key, "epoch", epoch)
            batches = [order[at : at + size] for at in range(0, len(rows), size)]
            seen += [
                self._step(batch, (*key, epoch, number)) for number, batch in enumerate(batches)
            ]
            if self._moved_too_far(seen[-len(batches) :]):
                break
        metrics = {
            name: _mean([row[name] for row in seen if name in row])
            for name in dict.fromkeys(n for row in seen for n in row)
        }
        metrics["steps"] = float(len(seen))
        if self.config.method == "ppo":
            metrics["explained_variance"] = explained_variance(
                self.rollout.values, self.targets.returns, self.rollout.learnt
            )
        return metrics

    def _moved_too_far(self, epoch: Sequence[dict[str, float]]) -> bool:
        limit = self.config.target_kl
        return limit is not None and _mean([row.get("approx_kl", 0.0) for row in epoch]) > limit

    def _step(self, batch: Sequence[int], key: tuple[object, ...]) -> dict[str, float]:
        """One step of each optimiser on some rows of the rollout."""
        total = float(sum(self.lengths[i] for i in batch))
        # answers to one prompt next to each other share its tokens
        parts = [
            part.sorted(lambda i: (self.rollout.trajectories[i].prompt, i))
            for part in micro_batches(batch, self.sizes, self.tokens)
        ]
        work = [partial(self._policy_part, part, total) for part in parts]
        if self.config.ptx_coef and self.ptx_rows:
            work += self._memory(len(batch), key)
        metrics = self.actor_critic.actor.step(work)
        named = {
            {"loss": "policy_loss", "grad_norm": "policy_grad_norm"}.get(name, name): value
            for name, value in metrics.items()
        }
        if self.actor_critic.critic:
            critic = self.actor_critic.critic.step(
                [partial(self._value_part, part, total) for part in parts]
            )
            named |= {f"value_{name}": value for name, value in critic.items()}
        return {"skipped": 0.0} | named

    def _policy_part(self, part: MicroBatch, total: float) -> StepLoss:
        packed, mask = self._forest(part)
        logits, values = self.actor_critic.actor.model(packed)
        logprobs = token_logprobs(logits, packed.targets, self.config.rollout.temperature)
        old, advantages = (
            self._flat(of, part) for of in (self.rollout.logprobs, self.targets.advantages)
        )
        found = policy_loss(logprobs, old, advantages, mask, self.config.clip_range, total)
        with torch.no_grad():
            spread = (entropy(logits) * mask).sum() / total
        metrics = {
            "clip_fraction": found.clip_fraction,
            "approx_kl": found.approx_kl,
            "ratio": found.ratio,
            "entropy": spread,
        }
        if values is None:
            return StepLoss(found.loss, metrics)
        error, clipped = self._value_loss(values, part, mask, total)
        return StepLoss(
            found.loss + VALUE_SHARE * error,
            metrics | {"value_loss": error, "value_clip_fraction": clipped},
        )

    def _value_part(self, part: MicroBatch, total: float) -> StepLoss:
        assert self.actor_critic.critic
        packed, mask = self._forest(part)
        values = self.actor_critic.critic.model(packed, values=True)
        error, clipped = self._value_loss(values, part, mask, total)
        return StepLoss(error, {"clip_fraction": clipped})

    def _value_loss(
        self, values: Tensor, part: MicroBatch, mask: Tensor, total: float
    ) -> ValueLoss:
        old, returns = (self._flat(of, part) for of in (self.rollout.values, self.targets.returns))
        return value_loss(values, old, returns, mask, self.config.clip_range, total)

    def _forest(self, part: MicroBatch) -> tuple[PackedBatch, Tensor]:
        """The rows of a pass, and which of their tokens count, ``[N]``."""
        rows = [
            (self.rollout.trajectories[i].prompt, self.rollout.trajectories[i].answer)
            for i in part.rows
        ]
        counts = [
            count
            for i, count in zip(part.rows, part.counts, strict=True)
            for _ in range(self.lengths[i])
        ]
        return self.actor_critic.pack(prompt_groups_of(rows)), torch.tensor(
            counts, device=self.actor_critic.model.device
        )

    def _flat(self, values_BT: Tensor, part: MicroBatch) -> Tensor:
        """The valid entries of a pass's rows, one after the other, ``[N]``."""
        return torch.cat([values_BT[i, : self.lengths[i]] for i in part.rows]).to(
            self.actor_critic.model.device
        )

    def _memory(self, count: int, key: tuple[object, ...]) -> list[partial[StepLoss]]:
        """Passes over ``count`` of the remembered rows (PPO-ptx, arXiv 2203.02155, equation 2)."""
        drawn = [self.ptx_rows[i] for i in shuffled(range(len(self.ptx_rows)), *key, "ptx")[:count]]
        total = float(sum(len(row.answer) for row in drawn))

        def part(rows: MicroBatch) -> StepLoss:
            packed = self.actor_critic.pack([drawn[i].prompt_group for i in rows.rows])
            logits, values = self.actor_critic.actor.model(packed)
            counted = torch.tensor(rows.counts, device=logits.device)[packed.answer_index]
            loss = language_model_loss(token_logprobs(logits, packed.targets), counted, total)
            unused = (
                0.0 if values is None else 0.0 * values.sum()
            )  # every weight must have a part in every pass of DDP
            return StepLoss(self.config.ptx_coef * loss + unused, {"ptx_loss": loss})

        return [
            partial(part, rows)
            for rows in micro_batches(
                range(len(drawn)), [len(row.ids) for row in drawn], self.tokens
            )
        ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _known_mean(rows: Sequence[dict[str, float]], name: str) -> float | None:
    """The mean of a figure over the updates that have it; None where none has."""
    values = [row[name] for row in rows if name in row]
    return _mean(values) if values else None


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 is a perfect critic, 0 one that only knows the mean."""
    spread = masked_variance(returns_BT, mask_BT)
    return float(1 - masked_variance(returns_BT - values_BT, mask_BT) / spread.clamp(min=1e-8))


def describe(rollout: Rollout, kl_coef: float) -> dict[str, float]:
    """The numbers of one rollout: mean score, KL per answer (summed over tokens), length, share that ended by itself or is unique.

    The score is that of the answers which have one; ``unread`` counts the others.
    """
    scores = rollout.scores[rollout.scored]
    metrics = (
        {"score": float(scores.mean()), "score_std": float(scores.std(unbiased=False))}
        if len(scores)
        else {}
    )
    kl = masked_sum(k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask) / len(
        rollout.trajectories
    )
    return metrics | {
        "unread": float((~rollout.scored).sum()),
        "kl": float(kl),
        "kl_coef": kl_coef,
        "length": float(rollout.lengths.float().mean()),
        "stopped": float(rollout.stopped.float().mean()),
        "unique_fraction": len({tuple(trajectory.answer) for trajectory in rollout.trajectories})
        / len(rollout.trajectories),
    }
