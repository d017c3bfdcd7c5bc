"""Monitoring of a PPO training: evaluations, limits that stop it, warnings, the policy to keep.

A reward model is a stand-in. Beyond some KL its score keeps rising while the true quality falls
(arXiv 2210.10760), so both are measured, and ``cai.evaluate.overoptimization`` finds where they
part.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai import distributed
from cai.config import Monitor
from cai.train.checkpoint import Origin, save
from cai.train.ppo import onset
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.evaluation import Evaluator

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Limit:
    """A range that a metric of an update must stay in.

    Attributes:
        metric: Name of the metric. An update without it does not break the limit.
        message: What it means if the metric is out of range.
        min: Smallest acceptable value.
        max: Largest acceptable value.
    """

    metric: str
    message: str
    min: float = -math.inf
    max: float = math.inf

    def is_broken(self, metrics: Metrics) -> bool:
        """Return whether the metric is out of range."""
        value = metrics.get(self.metric)
        return value is not None and (value < self.min or value > self.max)


def limits_of(settings: Monitor, batch_size: int, score_clip: float | None) -> list[Limit]:
    """List the limits that stop a training.

    Args:
        settings: Settings of the monitor.
        batch_size: Answers per update.
        score_clip: Distance from zero that scores are clipped to; None: they are not clipped.
    """
    limits = [
        Limit("entropy", f"entropy below {settings.min_entropy:g} nats", min=settings.min_entropy),
        Limit(
            "unique_fraction",
            f"fewer than {settings.min_unique_fraction:.0%} of the answers are unique",
            min=settings.min_unique_fraction,
        ),
        Limit(
            "unread",
            f"more than {settings.max_unscored:.0%} of the answers have no score",
            max=settings.max_unscored * batch_size,
        ),
    ]
    if settings.max_kl is not None:
        limits.insert(0, Limit("kl", f"KL above {settings.max_kl:g} nats", max=settings.max_kl))
    if score_clip is not None:
        message = f"mean score beyond {score_clip:g}, where scores are clipped"
        limits.append(Limit("normalized_score", message, min=-score_clip, max=score_clip))
    return limits


WARNINGS: dict[str, Callable[[Metrics], bool]] = {
    "all answers have the same score": lambda metrics: metrics.get("score_std") == 0,
    "some answers have no score": lambda metrics: metrics["unread"] > 0,
    "no answer ended with a stop token": lambda metrics: metrics["stopped"] == 0,
    "all answers are empty": lambda metrics: metrics["length"] <= 1,
    "a step was skipped because its gradient was not finite": (
        lambda metrics: metrics.get("skipped", 0) > 0
    ),
}
"""What is reported but does not stop a training: when each warning applies to an update."""


class Checkpoints:
    """The policy on disk: the best one so far beside its place, and in the end the one to keep.

    Args:
        actor_critic: The models.
        out: Folder of the finished policy.
        origin: What the training started from.
    """

    def __init__(self, actor_critic: ActorCritic, out: Path, origin: Origin) -> None:
        self.actor_critic = actor_critic
        self.out = out
        self.origin = origin
        self.best = out.with_name(f"{out.name}.best")

    def save_best(self) -> None:
        """Save the policy as the best one so far."""
        save(self.actor_critic.actor, self.origin, self.best)

    def publish(self, card: str, *, keep_best: bool) -> None:
        """Put the policy to keep in its place.

        Args:
            card: Text of the model card.
            keep_best: Keep the best policy, if one was saved, and not the last one.
        """
        if keep_best and self.best.is_dir():
            if distributed.is_main():
                (self.best / "README.md").write_text(card, encoding="utf-8")
                shutil.rmtree(self.out, ignore_errors=True)
                self.best.rename(self.out)
        else:
            save(self.actor_critic.actor, self.origin, self.out, card)
            if distributed.is_main():
                shutil.rmtree(self.best, ignore_errors=True)
        distributed.wait()


class TrainingMonitor:
    """Evaluates the policy every few updates, keeps the best one, warns, and says when to stop.

    Args:
        settings: Settings of the monitor.
        limits: The limits of an update. One that is broken ``settings.patience`` times in a row
            stops the training.
        checkpoints: Where policies are saved.
        evaluator: Evaluates the policy; None: there are no held-out prompts.

    Attributes:
        eval_points: The evaluations so far, each with the number of its ``update``.
        alarms: How often each limit was broken and each warning was given.
        onsets: The update at which each signal of reward hacking first fired.
        stopped_by: Message of the limit that stopped the training; empty while none has.
    """

    def __init__(
        self,
        settings: Monitor,
        limits: Sequence[Limit],
        checkpoints: Checkpoints,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.settings = settings
        self.limits = limits
        self.checkpoints = checkpoints
        self.evaluator = evaluator
        self.eval_points: list[dict[str, float]] = []
        self.alarms: Counter[str] = Counter()
        self.onsets: dict[str, int] = {}
        self.stopped_by = ""

    def after(self, update: int, history: Sequence[Metrics]) -> dict[str, Any]:
        """Check the last update, and evaluate the policy if it is time.

        Args:
            update: Number of updates done.
            history: Metrics of all of them.

        Returns:
            The metrics of the evaluation, and ``alarm``: broken limits and warnings.
        """
        alarms = self._check(history)
        row: dict[str, Any] = {}
        eval_every = self.settings.eval_every
        if eval_every and update % eval_every == 0 and not self.stopped_by:
            row |= self.evaluate(update)
        if alarms:
            row["alarm"] = "; ".join(alarms)
        return row

    def evaluate(self, update: int) -> dict[str, float]:
        """Evaluate the policy, and save it if it is the best so far; each update only once."""
        if not self.settings.eval_every or self.evaluator is None:
            return {}
        if any(point["update"] >= update for point in self.eval_points):
            return {}
        metrics = self.evaluator.evaluate()
        self.eval_points.append({"update": update, **metrics})
        if self._best_point()["update"] == update:
            self.checkpoints.save_best()
        return metrics

    def _quality(self, point: Metrics) -> float:
        """Rate an evaluation by gold score, or by score if no evaluation has a gold score."""
        has_gold = any("eval_gold" in other for other in self.eval_points)
        return point.get("eval_gold" if has_gold else "eval_score", -math.inf)

    def _best_point(self) -> dict[str, float]:
        """Return the best evaluation so far, the latest of equal ones."""
        return max(reversed(self.eval_points), key=self._quality)

    def _check(self, history: Sequence[Metrics]) -> list[str]:
        """Return the broken limits and the warnings of the last update, and decide about a stop."""
        metrics = history[-1]
        recent = history[-self.settings.patience :]
        alarms = []
        for limit in self.limits:
            if not limit.is_broken(metrics):
                continue
            alarms.append(limit.message)
            lasting = all(limit.is_broken(earlier) for earlier in recent)
            if lasting and len(recent) == self.settings.patience and not self.stopped_by:
                self.stopped_by = limit.message
        alarms += [message for message, applies in WARNINGS.items() if applies(metrics)]
        self.alarms.update(alarms)
        return alarms + self._check_onset(history)

    def _check_onset(self, history: Sequence[Metrics]) -> list[str]:
        """Return what the signals mean that fire for the first time after the last update."""
        fired = onset.fired(history, self.settings.onset)
        new = {name: len(history) for name in fired if name not in self.onsets}
        self.onsets |= new
        return [f"reward hacking? {onset.SIGNALS[name].text}" for name in new]

    def publish(self, card: str) -> None:
        """Save the last policy; the best one if the settings ask for it or training was stopped."""
        keep_best = self.settings.keep == "best" or bool(self.stopped_by)
        self.checkpoints.publish(card, keep_best=keep_best)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, as JSON values."""
        return {
            "eval_points": self.eval_points,
            "alarms": dict(self.alarms),
            "onsets": self.onsets,
            "stopped_by": self.stopped_by,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.eval_points = state["eval_points"]
        self.alarms = Counter(state["alarms"])
        self.onsets = state["onsets"]
        self.stopped_by = state["stopped_by"]

    def summary(self) -> dict[str, Any]:
        """Summarize what was observed; what never happened is left out."""
        summary: dict[str, Any] = {}
        if self.eval_points:
            summary["eval_points"] = self.eval_points
            summary["best_update"] = self._best_point()["update"]
        if self.alarms:
            summary["alarms"] = dict(self.alarms)
        if self.onsets:
            summary["onsets"] = self.onsets
        if self.stopped_by:
            summary["stopped_by"] = self.stopped_by
        return summary
