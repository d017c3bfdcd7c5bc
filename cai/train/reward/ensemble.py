"""Several reward models on the same labels: where they differ, they guess (arXiv 2310.02743)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai import distributed
from cai.config import Reward
from cai.records import Preference
from cai.train.reward.trainer import train_reward


def train_ensemble(
    preferences: Sequence[Preference], base: str, out: Path, config: Reward, **how: Any
) -> dict[str, float]:
    """Train ``config.ensemble.size`` reward models; the first is ``out`` itself, the others stand in it as ``member-1`` and so on.

    ``how`` is handed to :func:`~cai.train.reward.trainer.train_reward`. Killed, the member it was at goes on and those before it are trained again. Returns
    the figures of the first, and the held-out accuracy of each where there is one.
    """
    members = range(1, config.ensemble.size)
    places = [out.with_name(f"{out.name}.member-{number}") for number in members]
    accuracies = {}
    for number, place in zip(members, places, strict=True):
        measured = train_reward(preferences, base, place, config, member=number, **how)
        if "eval_accuracy" in measured:
            accuracies[f"eval_accuracy_{number}"] = measured["eval_accuracy"]
    metrics = train_reward(preferences, base, out, config, **how)
    if distributed.is_main():
        for number, place in zip(members, places, strict=True):
            shutil.rmtree(out / f"member-{number}", ignore_errors=True)
            place.rename(out / f"member-{number}")
    distributed.wait()
    return metrics | accuracies
