"""The training commands on the user's own data: ``cai sft``, ``reward``, ``ppo`` and ``dpo``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai import distributed
from cai.config import TrainingConfig
from cai.data.demonstrations import read_demonstrations
from cai.data.preferences import read_preferences, without_repetitions
from cai.data.prompts import read_prompts
from cai.errors import InputError, Problem
from cai.files import write_json
from cai.models.names import find_model
from cai.pipeline.lock import OWNER, lock_folder
from cai.pipeline.reporter import Reporter
from cai.pipeline.training_job import TrainingJob
from cai.records import Preference, Prompt

Metrics = dict[str, Any]
Rows = list[tuple[Prompt, str]]
_OWN = re.compile(r"(sft|reward|ppo|dpo)([.-].*)?|\.lock")
"""Names in the output folder that are those of a training command."""


@dataclass(frozen=True)
class CommandContext:
    """What a training command works on.

    Attributes:
        stage: The command: ``sft``, ``reward``, ``ppo`` or ``dpo``.
        config: The training file.
        base: The folder that relative paths of the file start from.
        reporter: Where progress is shown.
    """

    stage: str
    config: TrainingConfig
    base: Path
    reporter: Reporter

    @property
    def out(self) -> Path:
        """The folder of everything that is trained."""
        return self.base / self.config.out

    @property
    def model(self) -> str:
        """The model that the file names, as a folder or hub id."""
        return find_model(self.config.model, self.base)

    @property
    def start(self) -> str:
        """The policy to start from: the one that ``cai sft`` has trained if there is one."""
        fine_tuned = self.out / "sft"
        return str(fine_tuned) if fine_tuned.is_dir() else self.model

    @property
    def job(self) -> TrainingJob:
        """The training of the command."""
        return TrainingJob(
            out=self.out / self.stage,
            log_path=self.out / f"{self.stage}.log.jsonl",
            name=f"{self.out.name}-{self.stage}",
            base=self.base,
            config=self.config,
            reporter=self.reporter,
        )


def train_standalone(
    stage: str, config: TrainingConfig, base: Path, reporter: Reporter
) -> tuple[Path, Metrics]:
    """Train one model on the data of a training file.

    Args:
        stage: ``sft``, ``reward``, ``ppo`` or ``dpo``.
        config: The training file.
        base: The folder that relative paths of the file start from.
        reporter: Where progress is shown.

    Returns:
        The folder of the model, and its metrics, which are also in ``<stage>.json`` beside it.

    Raises:
        InputError: If data that the stage needs is not named, a model that it needs is missing, or
            the output folder holds something else or is in use by another process.
    """
    context = CommandContext(stage, config, base, reporter)
    with _locked(context.out):
        metrics = COMMANDS[stage](context)
        report = {"stage": stage, "config": config.model_dump(mode="json"), **metrics}
        distributed.on_main(write_json, context.out / f"{stage}.json", report)
    return context.out / stage, metrics


def _locked(out: Path) -> contextlib.AbstractContextManager[object]:
    """Make the output folder and lock it; only the main process holds the lock.

    Raises:
        InputError: If the folder holds something else than what the training commands write.
    """
    if not distributed.is_main():
        return contextlib.nullcontext()
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise InputError([Problem(str(out), f"cannot be written: {error.strerror}")]) from None
    is_own = OWNER in names or any(f"{stage}.json" in names for stage in COMMANDS)
    others = [name for name in sorted(names) if not _OWN.fullmatch(name)]
    if others and not is_own:
        text = f"holds other things ({others[0]}), and is left as it is; name a new folder as out"
        raise InputError([Problem(str(out), text)])
    return lock_folder(out)


def _sft(context: CommandContext) -> Metrics:
    """Imitate demonstrations, or the better answers of preferences."""
    rows, left_out = _demonstrations(context)
    return {**context.job.train_sft(rows, context.model), "left_out": left_out}


def _reward(context: CommandContext) -> Metrics:
    """Train a reward model on preferences."""
    preferences, left_out = _preferences(context)
    return {**context.job.train_reward(preferences, context.start), "left_out": left_out}


def _ppo(context: CommandContext) -> Metrics:
    """Optimize the policy against the reward model."""
    config = context.config
    prompts = _prompts(context)
    eval_prompts: list[Prompt] = []
    if config.monitor.eval_every is not None:
        count = config.monitor.eval_prompts
        eval_prompts, prompts = prompts[:count], prompts[count:]
    return context.job.train_ppo(
        prompts,
        context.start,
        _reward_model(context),
        eval_prompts=eval_prompts,
        ptx_rows=_demonstrations(context)[0] if config.ppo.ptx_coef else (),
    )


def _dpo(context: CommandContext) -> Metrics:
    """Optimize the policy on preferences, without a reward model."""
    preferences, left_out = _preferences(context)
    return {**context.job.train_dpo(preferences, context.start), "left_out": left_out}


def _reward_model(context: CommandContext) -> str | None:
    name = context.config.reward_model
    if name is not None:
        return find_model(name, context.base)
    trained = context.out / "reward"
    if not trained.is_dir():
        if context.config.ppo.reward_source == "functions":
            return None
        text = "there is no reward model; run `cai reward` first, or name one as reward_model"
        raise InputError([Problem(str(trained), text)])
    return str(trained)


def _prompts(context: CommandContext) -> list[Prompt]:
    """The prompts of the file, or those of its preferences, each once."""
    data = context.config.data
    prompts: list[Prompt] = []
    for name in data.prompts:
        prompts += read_prompts(context.base / name, "human", data.limit or 0)
    if prompts:
        return prompts
    preferences, _ = _preferences(context)
    by_id = {p.comparison.prompt.id: p.comparison.prompt for p in preferences}
    return list(by_id.values())


def _demonstrations(context: CommandContext) -> tuple[Rows, dict[str, int]]:
    """Answers to imitate, and how many rows were left out for which reason."""
    data = context.config.data
    names = _required("demonstrations", data.demonstrations or data.preferences, context)
    rows: Rows = []
    left_out: dict[str, int] = {}
    for name in names:
        file = read_demonstrations(context.base / name)
        rows += file.rows[: data.limit]
        left_out |= _by_file(name, file.counts)
    return rows, left_out


def _preferences(context: CommandContext) -> tuple[list[Preference], dict[str, int]]:
    """Labeled comparisons, and how many rows were left out for which reason."""
    data = context.config.data
    files = {}
    for name in _required("preferences", data.preferences, context):
        file = read_preferences(context.base / name)
        file.preferences = file.preferences[: data.limit]
        files[name if Path(name).name in files else Path(name).name] = file
    return without_repetitions(files)


def _required(key: str, names: Sequence[str], context: CommandContext) -> Sequence[str]:
    if not names:
        text = f"is empty; cai {context.stage} needs at least one file"
        raise InputError([Problem(f"data.{key}", text)])
    return names


def _by_file(name: str, counts: dict[str, int]) -> dict[str, int]:
    return {f"{Path(name).name}: {reason}": count for reason, count in counts.items()}


COMMANDS: dict[str, Callable[[CommandContext], Metrics]] = {
    "sft": _sft,
    "reward": _reward,
    "ppo": _ppo,
    "dpo": _dpo,
}
