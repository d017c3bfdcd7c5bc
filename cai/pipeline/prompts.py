"""The prompts of a run: reading the sets, and what there is to say about the held-out ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.config import RunConfig
from cai.data.prompts import by_kind, read_prompts
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Prompt

RED_TEAM, BENIGN = "red_team", "benign"
EVAL_RED_TEAM, EVAL_BENIGN = "eval_red_team", "eval_benign"
EVAL_SETS = {EVAL_RED_TEAM: "red-team", EVAL_BENIGN: "benign"}
"""The held-out sets, and what they are called in a sentence."""


class PromptSets(NamedTuple):
    """The prompts of a run.

    Attributes:
        prompts: All prompts, each once, in the set that has it first.
        repeated: How many prompts of each set were left out because an earlier set has them.
    """

    prompts: list[Prompt]
    repeated: dict[str, int]


def read_prompt_sets(config: RunConfig, base: Path) -> PromptSets:
    """Read the prompt files of a run.

    Args:
        config: The settings of the run.
        base: The folder of the run file.
    """
    names, prompts = config.prompts, dict[str, Prompt]()
    repeated = Counter[str]()
    files = (
        (RED_TEAM, names.red_team, names.red_team_limit),
        (BENIGN, names.benign, names.benign_limit),
        (EVAL_RED_TEAM, names.eval_red_team, names.eval_limit),
        (EVAL_BENIGN, names.eval_benign, names.eval_limit),
    )
    for kind, name, limit in files:
        if name is None:
            continue
        for prompt in read_prompts(base / name, kind, limit or 0):
            if prompt.id in prompts:
                repeated[kind] += 1
            else:
                prompts[prompt.id] = prompt
    return PromptSets(list(prompts.values()), dict(repeated))


def prompts_stage(context: StageContext) -> Metrics:
    """Read the prompt sets, each prompt once."""
    prompts, repeated = read_prompt_sets(context.config, context.run.base)
    context.write(prompts)
    kinds = (RED_TEAM, BENIGN, EVAL_RED_TEAM, EVAL_BENIGN)
    counts = {kind: len(by_kind(prompts, kind)) for kind in kinds}
    metrics = {**counts, "in_an_earlier_set": sum(repeated.values()), "repeated": repeated}
    notes = [_repeated_note(kind, count, counts[kind]) for kind, count in repeated.items()]
    for note in dict.fromkeys([*notes, *held_out_notes(context.config, metrics)]):
        context.reporter.info(note)
    return metrics


def prompts_of(context: StageContext, *kinds: str) -> list[Prompt]:
    """The prompts of some sets, in a stage that reads the prompts.

    Args:
        context: The stage.
        kinds: The sets, such as ``red_team``.
    """
    return [prompt for prompt in context.read("prompts", Prompt) if prompt.kind in kinds]


def held_out_notes(config: RunConfig, metrics: Mapping[str, Any]) -> list[str]:
    """Lines about missing held-out prompts, for the screen and the report.

    Args:
        config: The settings of the run.
        metrics: The metrics of the stage ``prompts``. ``metrics["repeated"]`` counts, for each set,
            the prompts that were left out because an earlier set has them.
    """
    repeated: Mapping[str, int] = metrics.get("repeated", {})
    missing = [kind for kind in EVAL_SETS if not metrics.get(kind)]
    unset = [kind for kind in missing if getattr(config.prompts, kind) is None]
    notes = [
        _repeated_note(kind, count, metrics.get(kind, 0))
        for kind, count in repeated.items()
        if kind in missing
    ]
    if len(unset) == len(EVAL_SETS):
        settings = " and ".join(f"prompts.{kind}" for kind in EVAL_SETS)
        notes.append(f"no held-out prompts: policies are not compared; set {settings}")
        return [*notes, *_nothing_to_monitor(config)]
    for kind in unset:
        name = EVAL_SETS[kind]
        notes.append(f"no held-out {name} prompts: nothing is measured on them; set prompts.{kind}")
    if len(missing) == len(EVAL_SETS):
        notes.append("no held-out prompts are left: policies are not compared")
        notes += _nothing_to_monitor(config)
    return notes


def _nothing_to_monitor(config: RunConfig) -> list[str]:
    if config.monitor.eval_every is None or "ppo" not in config.algorithms:
        return []
    return ["no held-out prompts: monitor.eval_every has nothing to evaluate"]


def _repeated_note(kind: str, repeated: int, kept: int) -> str:
    of_all = f"{repeated} of {repeated + kept} prompts"
    return f"prompts.{kind}: {of_all} are also in an earlier set and are left out"
