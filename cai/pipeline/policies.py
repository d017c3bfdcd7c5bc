"""The policies of a run: their names, and where they are."""

from __future__ import annotations

from pathlib import Path

from cai.backends.response_cache import ResponseCache
from cai.config import load_config
from cai.constitution.lock import read_lock
from cai.errors import InputError, Problem, did_you_mean
from cai.pipeline.layout import stage_folder
from cai.pipeline.run import CONFIG, CONSTITUTION_LOCK, Run, base_of


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


def policy_in_run(name: str) -> tuple[str, str]:
    """The model that ``RUN/POLICY`` means, such as ``runs/a/rl_cai``; any other name is kept.

    Args:
        name: The name of a model.

    Returns:
        A folder or hub id, and the chat format of the run; empty for the model's own.

    Raises:
        InputError: If the run has no such policy.
    """
    path = Path(name)
    folder = path.parent
    if path.exists() or not (folder / CONSTITUTION_LOCK).is_file():
        return name, ""
    constitution = read_lock(folder / CONSTITUTION_LOCK)
    with ResponseCache(":memory:") as cache:
        run = Run(folder, load_config(folder / CONFIG), constitution, cache, base_of(folder))
        known = finished_policies(run)
    if path.name not in known:
        hint = did_you_mean(path.name, known)
        text = f"the run has no policy {path.name}{hint}; it has {', '.join(known)}"
        raise InputError([Problem(name, text)])
    return known[path.name], run.chat_format
