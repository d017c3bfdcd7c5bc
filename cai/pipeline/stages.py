"""The whole pipeline on one screen: each stage is a function, a config section, a folder of the run, a row of the status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cai import distributed
from cai.config import RunConfig
from cai.files import write_json
from cai.pipeline.feedback import (
    audit_stage,
    compare_stage,
    draft,
    judge_stage,
    prompts,
    revise_stage,
)
from cai.pipeline.layout import ITERATED
from cai.pipeline.run import Run
from cai.pipeline.training import control, dpo, ppo, reward, sft

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage: what it does, what it is made from, and which settings it depends on.

    ``code`` is raised when a change of the code changes the result.
    """

    name: str
    title: str
    work: Callable[[Run], Metrics]
    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    uses_constitution: Callable[[RunConfig], bool] = lambda config: False
    reads: Callable[[RunConfig], tuple[str, ...]] = (
        lambda config: ()
    )  # files that are not the run's own
    code: int = 1
    round: int = 1  # 0: after the last one


def evaluate(run: Run) -> Metrics:
    """Every policy answers the held-out prompts; rates, win rates, KL and reward of each."""
    from cai.pipeline.evaluation import evaluate_run

    metrics = evaluate_run(run)
    distributed.on_main(write_json, run.stage_folder("evaluate") / "evaluation.json", metrics)
    return metrics


def always(config: RunConfig) -> bool:
    """A stage that reads the constitution."""
    return True


def judged(config: RunConfig) -> bool:
    """PPO reads the constitution where the judge itself rewards, or is gold."""
    return config.ppo.reward_source == "judge" or config.monitor.judge


def prompt_files(config: RunConfig) -> tuple[str, ...]:
    sets = config.prompts
    return tuple(filter(None, (sets.red_team, sets.benign, sets.eval_red_team, sets.eval_benign)))


def human_files(config: RunConfig) -> tuple[str, ...]:
    return config.reward.human


def reward_files(config: RunConfig) -> tuple[str, ...]:
    return config.reward.human + config.reward.test_sets


def guard_folder(config: RunConfig) -> tuple[str, ...]:
    return (config.constraint.model,) if config.constraint.model else ()


STAGES: tuple[Stage, ...] = (
    Stage("prompts", "read the prompts", prompts, (), ("prompts",), reads=prompt_files, code=2),
    Stage("sample", "the initial policy answers", draft, ("prompts",), ("sample", "models")),
    Stage(
        "revise",
        "critique and revise by principle",
        revise_stage,
        ("sample",),
        ("revise", "models"),
        uses_constitution=always,
    ),
    Stage(
        "sft",
        "fine-tune on the revisions",
        sft,
        ("sample", "revise"),
        ("sft", "models", "revise", "training"),
    ),
    Stage(
        "control",
        "fine-tune on helpful answers alone",
        control,
        ("sample",),
        ("sft", "models", "training"),
    ),
    Stage(
        "compare",
        "the SL-CAI policy answers in pairs",
        compare_stage,
        ("prompts", "sft"),
        ("compare", "models"),
    ),
    Stage(
        "judge",
        "the AI judge labels by principle",
        judge_stage,
        ("compare",),
        ("judge", "models"),
        uses_constitution=always,
    ),
    Stage(
        "audit",
        "look at the labels",
        audit_stage,
        ("judge",),
        ("audit", "judge", "models", "reward"),
        uses_constitution=always,
        reads=human_files,
        code=3,
    ),
    Stage(
        "reward",
        "train the reward model",
        reward,
        ("judge", "sft"),
        ("reward", "models", "training"),
        reads=reward_files,
    ),
    Stage(
        "ppo",
        "optimise against the reward, with a KL penalty",
        ppo,
        ("prompts", "sample", "revise", "sft", "reward"),
        ("ppo", "constraint", "monitor", "models", "judge", "training"),
        uses_constitution=judged,
        reads=guard_folder,
    ),
    Stage(
        "dpo",
        "optimise on the labels, without a reward model",
        dpo,
        ("judge", "sft"),
        ("dpo", "models", "reward", "training"),
        reads=human_files,
        round=0,
    ),
    Stage(
        "evaluate",
        "held-out prompts to every policy",
        evaluate,
        ("prompts", "sft", "control", "judge", "reward", "ppo", "dpo"),
        ("evaluate", "models", "judge"),
        uses_constitution=always,
        code=2,
        round=0,
    ),
)


def stages_of(config: RunConfig) -> tuple[Stage, ...]:
    """The stages of a run, those of a round once for each."""
    by_name = {stage.name: stage for stage in STAGES}
    once, rounds = [s for s in STAGES if s.round and s.name not in ITERATED], list[Stage]()
    for number in range(1, config.iterations + 1):
        names = {name: name if number == 1 else f"{name}-{number}" for name in ITERATED}
        judged = ["judge", *(f"judge-{n}" for n in range(2, number + 1))]
        inputs = {name: tuple(names.get(i, i) for i in by_name[name].inputs) for name in ITERATED}
        inputs["reward"] = (*judged, "sft")
        if number > 1:
            inputs["compare"] = ("prompts", "ppo" if number == 2 else f"ppo-{number - 1}")
        rounds += [
            replace(by_name[name], name=names[name], inputs=inputs[name], round=number)
            for name in ITERATED
        ]
    last = {name: names[name] for name in ITERATED}
    at_the_end = {name: [last[name]] for name in ITERATED} | {"judge": judged}
    after = [
        replace(s, inputs=tuple(n for i in s.inputs for n in at_the_end.get(i, [i])))
        for s in STAGES
        if s.round == 0
    ]
    wanted = [s for s in (*once, *rounds, *after) if _is_wanted(s, config)]
    names = [s.name for s in wanted]
    return tuple(replace(s, inputs=tuple(i for i in s.inputs if i in names)) for s in wanted)


def _is_wanted(stage: Stage, config: RunConfig) -> bool:
    if stage.work in (ppo, dpo):
        return stage.work.__name__ in config.algorithms
    return stage.work is not control or config.sft.control
