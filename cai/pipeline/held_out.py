"""What a run has to say about its held-out prompts: which it has none of, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai.config import RunConfig
from cai.pipeline.inputs import EVAL_BENIGN, EVAL_RED_TEAM

NAMES = {EVAL_RED_TEAM: "red-team", EVAL_BENIGN: "benign"}


def held_out_notes(config: RunConfig, read: Mapping[str, Any]) -> list[str]:
    """Plain lines about missing held-out prompts.

    Args:
        config: The run's settings.
        read: The figures of the stage ``prompts``. ``read["repeated"]`` counts, for each set, the
            prompts that were left out because an earlier set has them too.
    """
    repeated: Mapping[str, int] = read.get("repeated", {})
    missing = [kind for kind in NAMES if not read.get(kind)]
    unset = [kind for kind in missing if not getattr(config.prompts, kind)]
    notes = [
        repeats(kind, count, read.get(kind, 0))
        for kind, count in repeated.items()
        if kind in missing
    ]
    if len(unset) == len(NAMES):
        settings = " and ".join(f"prompts.{kind}" for kind in NAMES)
        notes.append(f"no held-out prompts: policies are not compared; set {settings}")
    else:
        notes += [
            f"no held-out {NAMES[kind]} prompts: nothing is measured on them; set prompts.{kind}"
            for kind in unset
        ]
        if len(missing) == len(NAMES):
            notes.append("no held-out prompts are left: policies are not compared")
    if len(missing) == len(NAMES) and config.monitor.eval_every:
        notes.append("no held-out prompts: monitor.eval_every has nothing to look at")
    return notes


def repeats(kind: str, count: int, left: int) -> str:
    """How many prompts of a set were left out because an earlier set has them."""
    of = f"{count} of {count + left} prompts"
    return f"prompts.{kind}: {of} are also in an earlier set and are left out"
