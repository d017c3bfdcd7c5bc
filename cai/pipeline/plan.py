"""What lies ahead of a run: its stages, their requests, and how their work compares.

The work of a stage is an estimate in tokens read by the model that trains or answers. It only has
to be right relative to the other stages: a run's pace is measured while it works.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cai.config import RunConfig
from cai.constitution.schema import Constitution
from cai.pipeline.estimate import Cost, costs
from cai.pipeline.stage import PlannedStage

WRITTEN = 2.0
"""Cost of a token that may be written, in tokens read; few answers use all of ``max_tokens``."""
TRAINED = 3.0
"""Cost of a token that is trained on: a forward and a backward pass."""
OVERHEAD = 20_000.0
"""Cost of a stage that does nothing else: opening and writing files and models."""
ANSWER_FRACTION = 0.5
"""Length of a typical answer, as a fraction of the most that it may have."""


class StagePlan(NamedTuple):
    """One stage that lies ahead.

    Attributes:
        name: Its name, such as ``judge-2``.
        requests: Requests that it makes, at most.
        work: Expected work, relative to the other stages.
        trainings: Models that it trains one after the other.
    """

    name: str
    requests: int
    work: float
    trainings: int = 1


def stage_plans(
    config: RunConfig, constitution: Constitution, base: Path, stages: Sequence[PlannedStage]
) -> list[StagePlan]:
    """Estimate the requests and the work of the stages of a run, as its dry run does.

    Args:
        config: The run's settings.
        constitution: The constitution that it reads.
        base: The folder that the paths in the settings start from.
        stages: The stages to be done.
    """
    by_stage = {cost.stage: cost for cost in costs(config, constitution, base)}
    training = _training_work(config, by_stage, base)
    plans = []
    for planned in stages:
        kind = planned.stage.name
        cost = by_stage.get(planned.name, Cost(planned.name, 0, 0, 0))
        reading = cost.tokens_in + WRITTEN * cost.tokens_out
        work = OVERHEAD + reading + training.get(kind, 0.0)
        trainings = config.reward.ensemble.size if kind == "reward" else 1
        plans.append(StagePlan(planned.name, cost.requests, work, trainings))
    return plans


def _training_work(config: RunConfig, by_stage: dict[str, Cost], base: Path) -> dict[str, float]:
    """The work of each stage that trains a model, once."""
    sampled = by_stage["sample"]
    turns = config.revise.rounds * (1 if config.revise.direct else 2)
    red = by_stage["revise"].requests / turns
    benign = sampled.requests - red
    prompt_tokens = sampled.tokens_in / max(1, sampled.requests)
    row = prompt_tokens + ANSWER_FRACTION * config.sample.max_tokens
    labels = sampled.requests * config.compare.pairs_per_prompt + _human_rows(config, base)
    rollout = config.ppo.rollout
    answer = prompt_tokens + ANSWER_FRACTION * rollout.max_tokens
    # scored by the reference policy, the reward model and the value model; two models are trained
    update = WRITTEN * rollout.max_tokens + answer * (3 + 2 * TRAINED * config.ppo.epochs)
    return {
        "sft": TRAINED * config.sft.epochs * row * (red + benign * config.sft.helpful),
        "control": TRAINED * config.sft.epochs * row * benign,
        "reward": TRAINED * config.reward.epochs * row * 2 * labels * config.reward.ensemble.size,
        "ppo": config.ppo.num_updates * rollout.batch_size * update,
        "dpo": (1 + TRAINED * config.dpo.epochs) * row * 2 * labels,
    }


def _human_rows(config: RunConfig, base: Path) -> int:
    """Rows of the files of human preferences, as far as they are lines of text."""
    rows = 0
    for name in config.reward.human:
        path = base / name
        if path.suffix == ".jsonl" and path.is_file():
            with path.open("rb") as file:
                rows += sum(1 for _ in file)
    return rows
