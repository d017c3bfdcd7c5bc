"""Looking at a policy while it is optimised: held-out reward and gold beside the KL, alarms, a stop rule, the best one kept.

A reward model is a stand-in. Past some KL the score goes on rising while what it stands for falls (arXiv 2210.10760), so the two
are put side by side, and ``cai.evaluate.overoptimization`` finds where they part.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cai import distributed
from cai.config import PPO, Monitor
from cai.keys import seed_for
from cai.models.chat_template.format import ChatFormat
from cai.models.load import context_length
from cai.models.stopping import answer_text
from cai.records import Prompt
from cai.rl.kl import k1
from cai.rl.masked import masked_sum
from cai.train.checkpoint import save
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.rewards import ScoreFunction, clip_of
from cai.train.ppo.rollout import collect_rollout

GoldReward = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float]]
"""How good answers really are, as far as somebody can say: a number each, the larger the better."""


class TrainingMonitor:
    """Looks every ``monitor.eval_every`` updates, keeps the best policy beside ``out``, and says when to stop."""

    def __init__(
        self,
        monitor: Monitor,
        actor_critic: ActorCritic,
        eval_prompts: Sequence[Prompt],
        chat: ChatFormat,
        score: ScoreFunction,
        gold: GoldReward | None,
        config: PPO,
        seed: int,
        base: str,
        out: Path,
    ) -> None:
        self.monitor, self.actor_critic, self.score, self.gold, self.config, self.seed = (
            monitor,
            actor_critic,
            score,
            gold,
            config,
            seed,
        )
        self.clip = clip_of(score, config)
        room = context_length(actor_critic.model) - config.rollout.max_tokens
        asked = [
            (p, chat.ids(chat.prompt(p.messages))) for p in eval_prompts[: monitor.eval_prompts]
        ]
        self.asked = [(prompt, ids) for prompt, ids in asked if len(ids) <= room]
        self.base, self.out, self.best = base, out, out.with_name(f"{out.name}.best")
        self.eval_points: list[dict[str, float]] = []
        self.alarms: Counter[str] = Counter()
        self.stop = ""

    def after(self, update: int, history: Sequence[dict[str, float]]) -> dict[str, Any]:
        """What there is to say after an update: the figures of a look, and alarms."""
        rung = self._ring(history)
        seen = (
            self.evaluate(update)
            if self.monitor.eval_every and update % self.monitor.eval_every == 0 and not self.stop
            else {}
        )
        return seen | ({"alarm": "; ".join(rung)} if rung else {})

    # -- looking -------------------------------------------------------------------------------------------------------

    def evaluate(self, update: int) -> dict[str, float]:
        """Answer the held-out prompts, score the answers, and keep the policy if it is the best so far."""
        if (
            not self.monitor.eval_every
            or not self.asked
            or any(evaluate["update"] >= update for evaluate in self.eval_points)
        ):
            return {}
        seeds = [seed_for(self.seed, "look", i) for i in range(len(self.asked))]
        rollout = collect_rollout(
            self.actor_critic,
            [ids for _, ids in self.asked],
            self.score,
            seeds=seeds,
            max_tokens=self.config.rollout.max_tokens,
            missing_eos_score=self.config.rollout.missing_eos_score,
        )
        kl = masked_sum(k1(rollout.logprobs, rollout.ref_logprobs), rollout.mask) / len(self.asked)
        found = {"eval_kl": float(kl)}
        if rollout.scored.any():
            found["eval_score"] = float(rollout.scores[rollout.scored].mean())
        if self.gold:
            texts = [
                answer_text(self.actor_critic.tokenizer, e.answer, self.actor_critic.stops)
                for e in rollout.trajectories
            ]
            values = self.gold(
                [(prompt, text) for (prompt, _), text in zip(self.asked, texts, strict=True)]
            )
            if len(values):
                found["eval_gold"] = sum(values) / len(values)
        self.eval_points.append({"update": update, **found})
        if self._worth(self.eval_points[-1]) >= max(map(self._worth, self.eval_points)):
            save(self.actor_critic.actor, self.actor_critic.tokenizer, self.best, self.base)
        return found

    def _worth(self, evaluate: dict[str, float]) -> float:
        """By gold where any look has it, else by score: the two are never held against each other."""
        if any("eval_gold" in row for row in self.eval_points):
            return evaluate.get("eval_gold", -math.inf)
        return evaluate.get("eval_score", -math.inf)

    # -- alarms --------------------------------------------------------------------------------------------------------

    def _ring(self, history: Sequence[dict[str, float]]) -> list[str]:
        """The alarms of the last update. A limit of ``monitor`` that is broken ``patience`` times in a row stops the training."""
        rung = [reason for reason, is_on in self._limits(history[-1]).items() if is_on]
        for reason in rung:
            if (
                all(self._limits(row).get(reason) for row in history[-self.monitor.patience :])
                and len(history) >= self.monitor.patience
            ):
                self.stop = self.stop or reason
        rung += [reason for reason, is_on in _warnings(history[-1]).items() if is_on]
        self.alarms.update(rung)
        return rung

    def _limits(self, row: dict[str, float]) -> dict[str, bool]:
        monitor = self.monitor
        most = monitor.max_unscored * self.config.rollout.batch_size
        limits = {
            f"KL over {monitor.max_kl} nats": monitor.max_kl is not None
            and row["kl"] > monitor.max_kl,
            # it has no entropy where no step of the update had finite figures; that is said by its own alarm
            f"entropy under {monitor.min_entropy} nats": row.get("entropy", math.inf)
            < monitor.min_entropy,
            f"fewer than {monitor.min_unique_fraction:.0%} of the answers differ": row[
                "unique_fraction"
            ]
            < monitor.min_unique_fraction,
            f"more than {monitor.max_unscored:.0%} of the answers have no score": row["unread"]
            > most,
        }
        if self.clip is not None and "score" in row:
            limits[f"mean score beyond {self.clip:g}, where scores are clipped"] = (
                abs(row["score"]) > self.clip
            )
        return limits

    # -- keeping -------------------------------------------------------------------------------------------------------

    def publish(self, card: str) -> None:
        """Save the policy; where that was asked for, or the training was stopped, the best one rather than the last."""
        if not self.best.is_dir() or not (self.monitor.keep == "best" or self.stop):
            save(self.actor_critic.actor, self.actor_critic.tokenizer, self.out, self.base, card)
            if distributed.is_main():
                shutil.rmtree(self.best, ignore_errors=True)
        elif distributed.is_main():
            (self.best / "README.md").write_text(card, encoding="utf-8")
            shutil.rmtree(self.out, ignore_errors=True)
            self.best.rename(self.out)
        distributed.wait()

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on watching."""
        return {"eval_points": self.eval_points, "alarms": dict(self.alarms), "stop": self.stop}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go back to a :meth:`state`."""
        self.eval_points, self.alarms, self.stop = (
            kept.get("eval_points", []),
            Counter(kept.get("alarms", {})),
            kept.get("stop", ""),
        )

    def summary(self) -> dict[str, Any]:
        """What was seen, as far as anything was."""
        best = max(self.eval_points, key=self._worth, default=None)
        said = {
            "eval_points": self.eval_points,
            "best_update": best["update"] if best else None,
            "alarms": dict(self.alarms),
            "stopped_by": self.stop,
        }
        return {name: value for name, value in said.items() if value not in ([], {}, "", None)}


def _warnings(row: dict[str, float]) -> dict[str, bool]:
    """What is worth a word and may yet be right."""
    return {
        "all answers got the same score": row.get("score_std") == 0,
        "some answers have no score": row["unread"] > 0,
        "no answer ended by itself": row["stopped"] == 0,
        "all answers are empty": row["length"] <= 1,
        "a step was skipped: its gradient was not finite": row.get("skipped", 0) > 0,
    }
