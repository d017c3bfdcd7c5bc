"""The sets of prompts that a run file names, and the principles that some have of their own."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple, get_args

from cai.config import RunConfig
from cai.config.feedback import EVAL, PromptSet
from cai.constitution.schema import Constitution, Use
from cai.errors import InputError, did_you_mean

BENIGN = "benign"
EVAL_RED_TEAM, EVAL_BENIGN = f"{EVAL}red_team", f"{EVAL}{BENIGN}"


class PromptFile(NamedTuple):
    """A file of prompts that a run file names.

    Attributes:
        kind: The set that its prompts belong to, such as ``red_team`` or ``eval_benign``.
        setting: Where the run file names it.
        name: The file; None if there is none.
        limit: Number of prompts to use; None for all.
    """

    kind: str
    setting: tuple[str, ...]
    name: str | None
    limit: int | None

    @property
    def is_held_out(self) -> bool:
        """Whether the policies are compared on its prompts."""
        return self.kind.startswith(EVAL)


def revised_sets(config: RunConfig) -> dict[str, PromptSet]:
    """The sets whose answers are critiqued and revised, by name; ``red_team`` may be one of them.

    Args:
        config: The settings of the run.
    """
    prompts = config.prompts
    if prompts.red_team is None:
        return dict(prompts.revised)
    limit = prompts.red_team_limit
    red_team = PromptSet(file=prompts.red_team, held_out=prompts.eval_red_team, limit=limit)
    return {"red_team": red_team, **prompts.revised}


def prompt_files(config: RunConfig) -> tuple[PromptFile, ...]:
    """The files of prompts of a run: those to train on, then the held-out ones.

    Args:
        config: The settings of the run.
    """
    prompts, files = config.prompts, list[PromptFile]()
    for name, of_set in revised_sets(config).items():
        is_named = name in prompts.revised
        setting = ("revised", name, "file") if is_named else (name,)
        held_out = ("revised", name, "held_out") if is_named else (f"{EVAL}{name}",)
        files += [
            PromptFile(name, setting, of_set.file, of_set.limit),
            PromptFile(f"{EVAL}{name}", held_out, of_set.held_out, prompts.eval_limit),
        ]
    if prompts.benign or prompts.eval_benign:
        files += [
            PromptFile(BENIGN, (BENIGN,), prompts.benign, prompts.benign_limit),
            PromptFile(EVAL_BENIGN, (EVAL_BENIGN,), prompts.eval_benign, prompts.eval_limit),
        ]
    return tuple(sorted(files, key=lambda file: file.is_held_out))


def training_sets(config: RunConfig) -> tuple[str, ...]:
    """The names of the sets that are trained on.

    Args:
        config: The settings of the run.
    """
    return (*revised_sets(config), BENIGN)


def held_out_sets(config: RunConfig) -> tuple[str, ...]:
    """The names of the sets on which the policies are compared.

    Args:
        config: The settings of the run.
    """
    return tuple(f"{EVAL}{name}" for name in training_sets(config))


def with_prompt_sets(constitution: Constitution, config: RunConfig) -> Constitution:
    """Add the principles that the sets of prompts have of their own to a run's constitution.

    Args:
        constitution: The constitution.
        config: The settings of the run.

    Raises:
        InputError: If a set names a principle that the constitution does not use, or none for one
            of the two uses.
    """
    sets: dict[str, tuple[str, ...]] = {}
    for name, of_set in config.prompts.revised.items():
        if of_set.principles:
            own = own_principles(constitution, of_set.principles)
            sets[name] = sets[f"{EVAL}{name}"] = own
    return constitution.model_copy(update={"prompt_sets": sets})


def own_principles(constitution: Constitution, patterns: Sequence[str]) -> tuple[str, ...]:
    """The ids of the principles that a set of prompts names.

    Args:
        constitution: The constitution.
        patterns: Ids or globs.

    Raises:
        InputError: If one of them names no principle that is used, or if none that they name is
            used to revise or none to judge by.
    """
    uses = {use: constitution.used_for(use) for use in get_args(Use)}
    used = list(dict.fromkeys(name for weights in uses.values() for name in weights))
    own: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(used, pattern)
        if not found:
            raise InputError(
                f"{constitution.name} uses no principle that is called {pattern!r}"
                f"{did_you_mean(pattern, used)}"
            )
        own |= dict.fromkeys(found)
    for use, weights in uses.items():
        if not own.keys() & weights.keys():
            raise InputError(f"{constitution.name} does not {use} by any of these principles")
    return tuple(own)
