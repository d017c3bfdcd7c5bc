"""Options that all trainers share."""

from __future__ import annotations

from dataclasses import dataclass, field

from cai.config import Training
from cai.train.loop import Log


def _no_log(row: dict[str, object]) -> None:
    """Drop a row of the log."""
    del row


@dataclass(frozen=True)
class TrainerOptions:
    """Options of a training that do not belong to one algorithm.

    Attributes:
        training: Precision, memory, adapters, optimizer and saved states.
        chat_format: How conversations are written for the model; empty: by its chat template.
        seed: Seed of every random decision.
        log: Called with the metrics of each step.
    """

    training: Training = field(default_factory=Training)
    chat_format: str = ""
    seed: int = 0
    log: Log = field(default_factory=lambda: _no_log)
