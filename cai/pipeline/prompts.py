"""The prompts of a run: reading the sets, and what there is to say about the held-out ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.config import RunConfig
from cai.config.feedback import EVAL
from cai.data.prompts import by_kind, read_prompts
from cai.pipeline.prompt_sets import PromptFile, prompt_files
from cai.pipeline.stage import Metrics, StageContext
from cai.records import Prompt


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
    prompts, repeated = dict[str, Prompt](), Counter[str]()
    for file in prompt_files(config):
        if file.name is None:
            continue
        for prompt in read_prompts(base / file.name, file.kind, file.limit or 0):
            if prompt.id in prompts:
                repeated[file.kind] += 1
            else:
                prompts[prompt.id] = prompt
    return PromptSets(list(prompts.values()), dict(repeated))


def prompts_stage(context: StageContext) -> Metrics:
    """Read the prompt sets, each prompt once."""
    prompts, repeated = read_prompt_sets(context.config, context.run.base)
    context.write(prompts)
    files = prompt_files(context.config)
    counts = {file.kind: len(by_kind(prompts, file.kind)) for file in files}
    metrics = {**counts, "in_an_earlier_set": sum(repeated.values()), "repeated": repeated}
    notes = [
        _repeated_note(f, repeated[f.kind], counts[f.kind]) for f in files if f.kind in repeated
    ]
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
    files = [file for file in prompt_files(config) if file.is_held_out]
    missing = [file for file in files if not metrics.get(file.kind)]
    unset = [file for file in missing if file.name is None]
    notes = [
        _repeated_note(file, repeated[file.kind], metrics.get(file.kind, 0))
        for file in missing
        if file.kind in repeated
    ]
    if len(unset) == len(files):
        settings = " and ".join(_setting(file) for file in files)
        notes.append(f"no held-out prompts: policies are not compared; set {settings}")
        return [*notes, *_nothing_to_monitor(config)]
    for file in unset:
        name = file.kind.removeprefix(EVAL).replace("_", "-")
        notes.append(
            f"no held-out {name} prompts: nothing is measured on them; set {_setting(file)}"
        )
    if len(missing) == len(files):
        notes.append("no held-out prompts are left: policies are not compared")
        notes += _nothing_to_monitor(config)
    return notes


def _nothing_to_monitor(config: RunConfig) -> list[str]:
    if config.monitor.eval_every is None or "ppo" not in config.algorithms:
        return []
    return ["no held-out prompts: monitor.eval_every has nothing to evaluate"]


def _repeated_note(file: PromptFile, repeated: int, kept: int) -> str:
    of_all = f"{repeated} of {repeated + kept} prompts"
    return f"{_setting(file)}: {of_all} are also in an earlier set and are left out"


def _setting(file: PromptFile) -> str:
    return ".".join(("prompts", *file.setting))
