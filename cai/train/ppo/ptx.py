"""The loss on fine-tuning rows that PPO-ptx adds to each step (arXiv 2203.02155, equation 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from cai.keys import shuffled
from cai.rl.losses import language_model_loss, token_logprobs
from cai.train.batching import TokenizedExample
from cai.train.engine import StepLoss
from cai.train.loop import MicroBatch, micro_batches
from cai.train.ppo.actor_critic import ActorCritic


class PTXLoss:
    """The language-model loss on rows of the fine-tuning set, which keeps PPO from unlearning them.

    Args:
        actor_critic: The models.
        rows: The fine-tuning rows.
        coef: Weight of the loss.
        micro_batch_tokens: Maximum tokens per forward pass.
    """

    def __init__(
        self,
        actor_critic: ActorCritic,
        rows: Sequence[TokenizedExample],
        coef: float,
        micro_batch_tokens: int,
    ) -> None:
        self.actor_critic = actor_critic
        self.rows = rows
        self.coef = coef
        self.micro_batch_tokens = micro_batch_tokens

    def losses(self, count: int, *key: object) -> list[Callable[[], StepLoss]]:
        """Draw rows for one optimizer step.

        Args:
            count: How many rows.
            key: Key of the draw.

        Returns:
            The micro-batches of the step, each a function that computes its loss.
        """
        order = shuffled(range(len(self.rows)), *key, "ptx")
        drawn = [self.rows[i] for i in order[:count]]
        num_tokens = float(sum(len(row.answer) for row in drawn))
        sizes = [len(row.ids) for row in drawn]
        return [
            partial(self._loss, drawn, micro_batch, num_tokens)
            for micro_batch in micro_batches(range(len(drawn)), sizes, self.micro_batch_tokens)
        ]

    def _loss(
        self, drawn: Sequence[TokenizedExample], micro_batch: MicroBatch, num_tokens: float
    ) -> StepLoss:
        packed = self.actor_critic.pack([drawn[i].prompt_group for i in micro_batch.rows])
        logits, values = self.actor_critic.actor.model(packed)
        weights = torch.tensor(micro_batch.weights, device=logits.device)[packed.answer_index]
        loss = language_model_loss(token_logprobs(logits, packed.targets), weights, num_tokens)
        total = self.coef * loss
        if values is not None:
            total = (
                total + 0.0 * values.sum()
            )  # DDP wants a gradient for every weight in every pass
        return StepLoss(total, {"ptx_loss": loss})
