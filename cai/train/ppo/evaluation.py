"""Evaluation of a policy in training on held-out prompts: KL, score and gold score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai.config import PPORollout
from cai.keys import seed_for
from cai.records import Prompt
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.metrics import mean, rollout_kl
from cai.train.ppo.rewards import ScoreFunction
from cai.train.ppo.rollout import collect_rollout

GoldReward = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float]]
"""From pairs of prompt and answer to how good the answers really are, the larger the better.

Answers about which nothing is known may be left out."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the policy on held-out prompts.

    Attributes:
        actor_critic: The models.
        prompts: The held-out prompts.
        prompt_ids: Their token ids.
        score: The reward source.
        gold: The gold reward, or None.
        config: How the answers are sampled, as in training.
        seed: Seed of the answers; the same at each evaluation.
    """

    actor_critic: ActorCritic
    prompts: Sequence[Prompt]
    prompt_ids: Sequence[list[int]]
    score: ScoreFunction
    gold: GoldReward | None
    config: PPORollout
    seed: int

    def evaluate(self) -> dict[str, float]:
        """Answer the prompts and measure the answers.

        Returns:
            ``eval_kl``; ``eval_score`` over the answers that have one; ``eval_gold`` if there is a
            gold reward.
        """
        rollout = collect_rollout(
            self.actor_critic,
            self.prompt_ids,
            self.score,
            seeds=[seed_for(self.seed, "look", i) for i in range(len(self.prompts))],
            max_tokens=self.config.max_tokens,
        )
        metrics = {"eval_kl": rollout_kl(rollout)}
        if rollout.scored.any():
            metrics["eval_score"] = float(rollout.scores[rollout.scored].mean())
        if self.gold:
            chat = self.actor_critic.chat
            texts = [chat.decode(row.answer).text for row in rollout.trajectories]
            gold = self.gold(list(zip(self.prompts, texts, strict=True)))
            if len(gold):
                metrics["eval_gold"] = mean(gold)
        return metrics
