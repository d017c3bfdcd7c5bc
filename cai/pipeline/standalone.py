"""The training stages on their own, on the user's data: one file, four verbs, the very code that ``cai run`` trains with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cai import distributed
from cai.config import TrainingConfig
from cai.data.demonstrations import read_demonstrations
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.errors import InputError, Problem
from cai.files import write_json
from cai.models.names import find_model
from cai.pipeline.reporter import Reporter
from cai.pipeline.run import training_log
from cai.records import Preference, Prompt

if TYPE_CHECKING:
    from cai.train.options import TrainerOptions

Metrics = dict[str, Any]
Log = Callable[[dict[str, float]], None]


class Task(NamedTuple):
    """What a stage works on."""

    config: TrainingConfig
    base: Path  # the folder that the file's relative paths start from
    out: Path
    log: Log

    @property
    def start(self) -> str:
        """The policy to start from: the supervised one where there is one."""
        tuned = self.out / "sft"
        return str(tuned) if tuned.is_dir() else self.model

    @property
    def model(self) -> str:
        """The model that the file names, as a folder or hub id."""
        return find_model(self.config.model, self.base)

    @property
    def options(self) -> TrainerOptions:
        """The options that all trainers share."""
        from cai.train.options import TrainerOptions

        config = self.config
        return TrainerOptions(config.training, config.chat_format or "", config.seed, self.log)

    def files(self, names: Sequence[str]) -> list[Path]:
        return [self.base / name for name in names]


def train_standalone(
    stage: str, config: TrainingConfig, base: Path, reporter: Reporter
) -> tuple[Path, Metrics]:
    """Do one stage; returns its checkpoint and its figures, which also stand in ``<stage>.json`` beside it.

    Raises:
        InputError: if a file the stage needs is not named, or a stage it builds on has not been done.
    """
    out = base / config.out
    from cai.train.engine import with_trackers

    log = with_trackers(
        training_log(out / f"{stage}.log.jsonl", reporter),
        config.trackers,
        f"{out.name}-{stage}",
        out,
    )
    task = Task(config, base, out, log)
    metrics = STAGES[stage](task)
    report = {"stage": stage, "config": config.model_dump(mode="json"), **metrics}
    distributed.on_main(write_json, out / f"{stage}.json", report)
    return out / stage, metrics


def sft(task: Task) -> Metrics:
    """Imitate demonstrations, or the better answers of the preferences."""
    from cai.train.sft import train_sft

    rows, left_out = _demonstrations(task)
    config = task.config
    metrics = train_sft(rows, task.model, task.out / "sft", config.sft, options=task.options)
    return {**metrics, "left_out": left_out}


def reward(task: Task) -> Metrics:
    """Train a reward model on the preferences."""
    from cai.evaluate.test_sets import check_test_sets
    from cai.train.reward.trainer import train_reward

    preferences, left_out = _preferences(task, "reward")
    config = task.config
    metrics = train_reward(
        preferences, task.start, task.out / "reward", config.reward, options=task.options
    )
    built = [
        p
        for path in task.files(config.reward.test_sets)
        for p in read_preferences(path).preferences
    ]
    test_sets = (
        check_test_sets(
            str(task.out / "reward"),
            built,
            min_accuracy=config.reward.min_test_set_accuracy,
            chat_format=config.chat_format or "",
        )
        if built
        else {}
    )
    return {**metrics, "left_out": left_out} | {
        f"right in {name}": test_set["right"] for name, test_set in test_sets.items()
    }


def ppo(task: Task) -> Metrics:
    """Optimise the policy against the reward model."""
    from cai.train.ppo.detokenize import Detokenizer
    from cai.train.ppo.rewards import load_constraint, reward_scorer
    from cai.train.ppo.trainer import train_ppo

    config = task.config
    named = config.reward_model
    model = find_model(named, task.base) if named else str(task.out / "reward")
    if not config.reward_model and not Path(model).is_dir():
        raise InputError(
            [
                Problem(
                    model, "holds no reward model; do cai reward first, or name one as reward_model"
                )
            ]
        )
    prompts: list[Prompt] = []
    for path in task.files(config.data.prompts):
        prompts += read_prompts(path, "human", config.data.limit or 0)
    if not prompts:
        preferences, _ = _preferences(task, "ppo")
        prompts = list({p.comparison.prompt.id: p.comparison.prompt for p in preferences}.values())
    held, prompts = (
        (prompts[: config.monitor.eval_prompts], prompts[config.monitor.eval_prompts :])
        if config.monitor.eval_every
        else ([], prompts)
    )
    texts = Detokenizer([*held, *prompts], task.start, config.chat_format or "")
    score = reward_scorer(model, config.reward.ensemble.combine, texts)
    options = task.options
    return dict(
        train_ppo(
            prompts,
            task.start,
            model,
            task.out / "ppo",
            config.ppo,
            score=score,
            monitor=config.monitor,
            eval_prompts=held,
            ptx_examples=_demonstrations(task)[0] if config.ppo.ptx_coef else (),
            constraint=load_constraint(config.constraint, task.base, texts),
            training=options.training,
            chat_format=options.chat_format,
            seed=options.seed,
            log=options.log,
        )
    )


def dpo(task: Task) -> Metrics:
    """Optimise the policy on the preferences, without a reward model."""
    from cai.train.dpo import train_dpo

    preferences, left_out = _preferences(task, "dpo")
    config = task.config
    metrics = train_dpo(preferences, task.start, task.out / "dpo", config.dpo, options=task.options)
    return {**metrics, "left_out": left_out}


def _demonstrations(task: Task) -> tuple[list[tuple[Prompt, str]], dict[str, int]]:
    names = task.config.data.demonstrations or task.config.data.preferences
    _require(names, "demonstrations", "sft")
    read = [(path.name, read_demonstrations(path)) for path in task.files(names)]
    return [row for _, found in read for row in _first(found.rows, task)], _counts(
        [(name, found.counts) for name, found in read]
    )


def _preferences(task: Task, stage: str) -> tuple[list[Preference], dict[str, int]]:
    _require(task.config.data.preferences, "preferences", stage)
    read = [
        (path.name, read_preferences(path)) for path in task.files(task.config.data.preferences)
    ]
    return [p for _, found in read for p in _first(found.preferences, task)], _counts(
        [(name, found.counts) for name, found in read]
    )


def _first(rows: list[Any], task: Task) -> list[Any]:
    return rows[: task.config.data.limit or None]


def _require(names: Sequence[str], key: str, stage: str) -> None:
    if not names:
        raise InputError([Problem(f"data.{key}", f"names no file, and cai {stage} needs one")])


def _counts(read: Sequence[tuple[str, dict[str, int]]]) -> dict[str, int]:
    return {f"{name}: {reason}": count for name, counts in read for reason, count in counts.items()}


STAGES: dict[str, Callable[[Task], Metrics]] = {
    "sft": sft,
    "reward": reward,
    "ppo": ppo,
    "dpo": dpo,
}
