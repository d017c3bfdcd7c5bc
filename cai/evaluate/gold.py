"""Gold flags: what a user's function, or the checkers of the reference world, say about an answer.

A gold function takes a prompt and an answer and returns named flags, such as
``{"harmful": False}``: true or false, or a number from 0 to 1. It returns a flag only for the prompts that the flag is
about (``prompt.kind`` names their set), and an empty dict where it has nothing to say. A flag that
it never returns is not reported.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai.errors import InputError, Problem, RunFailed
from cai.evaluate.statistics import mean, proportion, wilson
from cai.functions import function_of
from cai.records import Prompt, Sample

GoldMetrics = Callable[[Prompt, str], Mapping[str, float]]
ATTRIBUTE = "has_"
"""Flags that begin like this are attributes: reported for each set of prompts, not as rates."""
TAKEN = ("win",)
"""Flags that cannot be reported, because a figure of that name is there already (``win_rate``)."""


def gold_function(name: str) -> GoldMetrics:
    """The gold function that a run file names as ``module:function``.

    Raises:
        InputError: if there is none, or it does not take a prompt and an answer.
    """
    function = function_of(name)
    with contextlib.suppress(ValueError):  # some built-in functions do not say what they take
        try:
            inspect.signature(function).bind("prompt", "answer")
        except TypeError as error:
            raise InputError(
                [Problem(name, f"must take a prompt and an answer: {error}")]
            ) from None
    return checked(function, name)


def checked(function: Callable[[Prompt, str], Any], name: str) -> GoldMetrics:
    """A user's gold function whose mistakes end in one line that names the function.

    Raises (when called):
        InputError: if it does not return flags.
        RunFailed: if it raises.
    """

    def gold(prompt: Prompt, answer: str) -> dict[str, float]:
        try:
            flags = function(prompt, answer)
        except Exception as error:  # whatever a user's code may raise
            at = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({at.filename}:{at.lineno})"
            raise RunFailed(
                f"evaluate.gold: {name} failed on an answer to {prompt.text[:80]!r}: {message}"
            ) from error
        if not isinstance(flags, Mapping):
            raise InputError(
                [
                    Problem(
                        "evaluate.gold",
                        f"{name} must return a dict of flags, not {type(flags).__name__}",
                    )
                ]
            )
        return {str(flag): _share(flag, value, name) for flag, value in flags.items()}

    return gold


def _share(flag: Any, value: Any, name: str) -> float:
    try:
        share = float(value) if not isinstance(value, str) else -1.0
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(
            [
                Problem(
                    "evaluate.gold",
                    f"{name}: the flag {flag!r} is {value!r}; it must be true, false or 0 to 1",
                )
            ]
        )
    if flag in TAKEN:
        raise InputError(
            [
                Problem(
                    "evaluate.gold",
                    f"{name}: the flag {flag!r} needs another name; {flag}_rate is something else",
                )
            ]
        )
    return share


def rates(answers: Sequence[Sample], gold: GoldMetrics) -> dict[str, Any]:
    """How often each flag is true, with 95 % intervals, and each attribute per set of prompts.

    ``<flag>_rate`` is over all answers for which the flag was returned; ``flags`` splits it by the
    sets of their prompts.
    """
    read = [(s.prompt.kind, gold(s.prompt, s.response)) for s in answers]
    found: dict[str, dict[str, list[float]]] = {}
    for kind, flags in read:
        for flag, value in flags.items():
            found.setdefault(flag, {}).setdefault(kind, []).append(value)
    metrics: dict[str, Any] = {}
    for flag, sets in found.items():
        if flag.startswith(ATTRIBUTE):
            attributes = metrics.setdefault("attributes", {})
            attributes[flag.removeprefix(ATTRIBUTE)] = {
                kind: mean(values) for kind, values in sets.items()
            }
            continue
        values = [value for part in sets.values() for value in part]
        rate = wilson(sum(values), len(values))
        metrics |= {f"{flag}_rate": rate.value, f"{flag}_rate_interval": [rate.low, rate.high]}
        metrics.setdefault("flags", {})[flag] = {
            kind: proportion(sum(part), len(part)) for kind, part in sets.items()
        }
    return metrics


Column = tuple[str, str]
"""A flag and a set of prompts that it was returned for."""


def columns(policies: Mapping[str, Any]) -> dict[str, Column]:
    """The columns that a table of policies has for their flags, by title; none is empty."""
    shown = [
        (flag, kind)
        for metrics in policies.values()
        for flag, sets in metrics.get("flags", {}).items()
        for kind in sets
    ]
    unique = list(dict.fromkeys(shown))
    flags = [flag for flag, _ in unique]
    return {
        _title(flag, "" if flags.count(flag) == 1 else kind): (flag, kind) for flag, kind in unique
    }


def _title(flag: str, kind: str) -> str:
    """A flag as a reader sees it, with the set of prompts where there are several."""
    side = kind.removeprefix("eval_").replace("_", "-")
    return flag.replace("_", " ") + (f", {side}" if side else "")


def share_of(metrics: Mapping[str, Any], column: Column) -> Mapping[str, float] | None:
    """What a policy has in a column: the share with its interval, or None."""
    flag, kind = column
    found: Mapping[str, float] | None = metrics.get("flags", {}).get(flag, {}).get(kind)
    return found
