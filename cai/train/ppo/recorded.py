"""Some answers of each update of PPO, for people to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rollout import Rollout

RECORDED = 8
"""Answers of each update that are recorded."""


class AnswerRecorder:
    """Records answers of rollouts, evenly spread over the prompts of each.

    Args:
        detokenizer: Turns token ids into texts.
        write: Called with the number of an update, from 1, and its rows: ``update``, the text of
            the ``prompt``, its ``set``, the ``answer``, its ``score`` (None if it has none), and
            its ``kl`` from the reference in nats.
    """

    def __init__(
        self, detokenizer: Detokenizer, write: Callable[[int, list[dict[str, Any]]], None]
    ) -> None:
        self._detokenizer, self._write = detokenizer, write

    def __call__(self, update: int, rollout: Rollout) -> None:
        """Record the answers of an update.

        Args:
            update: Its number, from 1.
            rollout: Its rollout, with the scores as the reward source gave them.
        """
        rows = rollout.trajectories[:: -(-len(rollout.trajectories) // RECORDED)]
        texts = self._detokenizer([row.prompt for row in rows], [row.answer for row in rows])
        self._write(
            update,
            [
                {
                    "update": update,
                    "prompt": prompt.text,
                    "set": prompt.kind,
                    "answer": text,
                    "score": row.score,
                    "kl": sum(row.logprobs) - sum(row.ref_logprobs),
                }
                for row, (prompt, text) in zip(rows, texts, strict=True)
            ],
        )
