"""The trainings of a run step by step: their curves, and the answers recorded on the way."""

from __future__ import annotations

from typing import Any, NamedTuple

from cai.pipeline.stages import plan_stages
from cai.studio.library import StudioRun
from cai.studio.overview import is_number, log_rows

ANSWERS = "answers.jsonl"
"""The file of a training by PPO with some answers of each update."""
MAX_ANSWERS = 32
"""Answers of an update that a page shows."""
SHOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "sft": (("loss", "loss"), ("grad_norm", "norm of the gradient")),
    "control": (("loss", "loss"), ("grad_norm", "norm of the gradient")),
    "reward": (("loss", "loss"), ("accuracy", "accuracy")),
    "dpo": (("loss", "loss"), ("accuracy", "accuracy")),
    "ppo": (("score", "reward"), ("kl", "KL from SL-CAI, nats")),
}
"""The metrics that the curve of each kind of training shows, with titles."""


class Training(NamedTuple):
    """A training of a run.

    Attributes:
        stage: Its stage.
        unit: What a row of its log is: ``update`` of PPO, or ``step``.
        shown: The metrics of its curve, with titles.
        rows: Its log: the numbers of each step, in order.
    """

    stage: str
    unit: str
    shown: tuple[tuple[str, str], ...]
    rows: list[dict[str, float]]

    @property
    def steps(self) -> list[int]:
        """The numbers of the steps that were logged."""
        return [int(row[self.unit]) for row in self.rows]


def trainings(run: StudioRun) -> list[str]:
    """The stages of a run that train, and have begun.

    Args:
        run: The run.
    """
    return [
        planned.name
        for planned in plan_stages(run.config)
        if planned.stage.name in SHOWN and (run.folder / planned.name / "log.jsonl").is_file()
    ]


def training(run: StudioRun, stage: str) -> Training:
    """Read the log of a training.

    Args:
        run: The run.
        stage: One of its trainings.
    """
    kind = stage.partition("-")[0]
    unit = "update" if kind == "ppo" else "step"
    # of a step that was repeated after a kill, the last row counts
    rows = {
        int(row[unit]): {name: float(value) for name, value in row.items() if is_number(value)}
        for row in log_rows(run.folder, stage)
        if is_number(row.get(unit))
    }
    return Training(stage, unit, SHOWN[kind], [rows[step] for step in sorted(rows)])


def recorded_answers(run: StudioRun, stage: str, update: int) -> list[dict[str, Any]]:
    """The answers that PPO recorded at an update, the one with the highest score first.

    Args:
        run: The run.
        stage: Its training by PPO.
        update: The number of the update.
    """
    found = [
        row
        for row in log_rows(run.folder, stage, ANSWERS)
        if row.get("update") == update
        and isinstance(row.get("prompt"), str)
        and isinstance(row.get("answer"), str)
    ][:MAX_ANSWERS]
    return sorted(found, key=lambda row: -row["score"] if is_number(row.get("score")) else 1e9)
