"""Metrics of rollouts, updates and whole trainings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cai.rl.kl import k1
from cai.rl.masked import masked_sum, masked_variance
from cai.train.ppo.rollout import Rollout

SUMMARY_FRACTION = 8
"""A training is summarized by the means over the first and the last eighth of its updates."""


def rollout_kl(rollout: Rollout) -> float:
    """Compute the KL from the reference in nats per answer, summed over its tokens."""
    kl = masked_sum(k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask)
    return float(kl / len(rollout.trajectories))


def rollout_metrics(rollout: Rollout, kl_coef: float) -> dict[str, float]:
    """Compute the metrics of one rollout.

    Args:
        rollout: The rollout, with the scores as the reward source gave them.
        kl_coef: The KL coefficient of the update, which is reported with them.

    Returns:
        ``score`` and ``score_std`` over the answers that have a score (left out if none has),
        ``kl`` per answer, ``length`` in tokens, ``stopped`` and ``unique_fraction`` as fractions of
        the answers.
    """
    metrics: dict[str, float] = {}
    scores = rollout.scores[rollout.scored]
    if len(scores):
        metrics["score"] = float(scores.mean())
        metrics["score_std"] = float(scores.std(unbiased=False))
    unique = {tuple(trajectory.answer) for trajectory in rollout.trajectories}
    return metrics | {
        "kl": rollout_kl(rollout),
        "kl_coef": kl_coef,
        "length": float(rollout.lengths.float().mean()),
        "stopped": float(rollout.stopped.float().mean()),
        "unique_fraction": len(unique) / len(rollout.trajectories),
    }


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """Compute ``1 - Var(returns - values) / Var(returns)``.

    1 is a perfect critic, 0 one that predicts a constant; a worse one is negative.
    """
    unexplained = masked_variance(returns_BT - values_BT, mask_BT)
    variance = masked_variance(returns_BT, mask_BT)
    return float(1 - unexplained / variance.clamp(min=1e-8))


def mean(values: Sequence[float]) -> float:
    """Average some values; there must be at least one."""
    return sum(values) / len(values)


def mean_of(rows: Sequence[dict[str, float]], name: str) -> float | None:
    """Average a metric over the rows that have it; None if none has."""
    values = [row[name] for row in rows if name in row]
    return mean(values) if values else None


def mean_of_each(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average every metric over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean([row[name] for row in rows if name in row]) for name in names}


def summarize(history: Sequence[dict[str, float]], skipped_steps: int) -> dict[str, float]:
    """Summarize a training.

    Args:
        history: Metrics of each update.
        skipped_steps: Optimizer steps that were skipped since their gradient was not finite.

    Returns:
        Means over the first (``reward_before``) and the last eighth of the updates, and totals.
        Metrics that no update has are left out.
    """
    count = max(1, len(history) // SUMMARY_FRACTION)
    first, last = history[:count], history[-count:]
    metrics = {
        "reward_before": mean_of(first, "score"),
        "reward_after": mean_of(last, "score"),
        "kl": mean_of(last, "kl"),
        "length": mean_of(last, "length"),
        "stopped": mean_of(last, "stopped"),
        "num_updates": len(history),
        "skipped_steps": skipped_steps,
        "unread": int(sum(row["unread"] for row in history)),
        "constraint": mean_of(last, "constraint"),
        "multiplier": history[-1].get("multiplier"),
    }
    return {name: value for name, value in metrics.items() if value is not None}
