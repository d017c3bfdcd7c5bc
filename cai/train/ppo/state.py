"""The state of a PPO training, which updates change and a resumed training takes up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cai.config import PPO
from cai.rl.kl import KLController
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.monitor import TrainingMonitor
from cai.train.ppo.prompts import prompt_batches
from cai.train.ppo.ptx import PTXLoss
from cai.train.ppo.reward_scaling import RewardScaling
from cai.train.ppo.rewards import ConstraintReward, ScoreFunction
from cai.train.ppo.rollout import Rollout
from cai.train.ppo.signals import Signals


@dataclass
class PPOState:
    """Everything that one training carries from update to update.

    Attributes:
        config: Settings of PPO.
        seed: Seed of every random decision.
        actor_critic: The models.
        prompts: Token ids of the prompts.
        score: The reward source.
        signals: What is measured of each rollout besides.
        constraint: The constraint, or None.
        reward_scaling: Scales the scores.
        kl_controller: The KL coefficient.
        ptx: The additional loss of PPO-ptx, or None.
        monitor: Evaluates the policy and decides when to stop.
        micro_batch_tokens: Maximum tokens per forward pass.
        record: Called with the number of each update, from 1, and its rollout; None: nothing is.
        history: Metrics of each update so far.
    """

    config: PPO
    seed: int
    actor_critic: ActorCritic
    prompts: list[list[int]]
    score: ScoreFunction
    signals: Signals
    constraint: ConstraintReward | None
    reward_scaling: RewardScaling
    kl_controller: KLController
    ptx: PTXLoss | None
    monitor: TrainingMonitor
    micro_batch_tokens: int
    record: Callable[[int, Rollout], None] | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def remaining_batches(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the number and the prompts of each update that is not done yet."""
        done = len(self.history)
        for update, batch in enumerate(prompt_batches(len(self.prompts), self.config, self.seed)):
            if update >= done:
                yield update, batch

    @property
    def skipped_steps(self) -> int:
        """Optimizer steps that were skipped since their gradient was not finite."""
        return sum(engine.skipped for engine in self.actor_critic.engines.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs besides the weights, as JSON values."""
        return {
            "history": self.history,
            "kl_coef": self.kl_controller.coef,
            "reward_scaling": self.reward_scaling.state_dict(),
            "monitor": self.monitor.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.history = state["history"]
        self.kl_controller.coef = state["kl_coef"]
        self.reward_scaling.load_state_dict(state["reward_scaling"])
        self.monitor.load_state_dict(state["monitor"])
