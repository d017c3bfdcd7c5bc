"""The policies of a run: their names, and where they are."""

from __future__ import annotations

from pathlib import Path

from cai.pipeline.layout import stage_folder
from cai.pipeline.run import Run


def policies_of(run: Run) -> dict[str, str]:
    """All policies that a run's settings ask for, as folders or hub ids, in the order of training.

    Args:
        run: The run.
    """
    config = run.config
    stages = {"control": "control"} if config.trains_control else {}
    stages["sl_cai"] = "sft"
    if "ppo" in config.algorithms:
        for iteration in range(1, config.iterations):
            stages[f"rl_cai_{iteration}"] = stage_folder("ppo", iteration)
        stages["rl_cai"] = stage_folder("ppo", config.iterations)
    if "dpo" in config.algorithms:
        stages["dpo"] = "dpo"
    checkpoints = {name: run.folder / stage / "checkpoint" for name, stage in stages.items()}
    initial = run.model(config.models.initial)
    return {"initial": initial, **{name: str(path) for name, path in checkpoints.items()}}


def finished_policies(run: Run) -> dict[str, str]:
    """The policies of a run that are there to be used; the initial policy always is.

    Args:
        run: The run.
    """
    policies = policies_of(run)
    return {
        name: path for name, path in policies.items() if name == "initial" or Path(path).is_dir()
    }
