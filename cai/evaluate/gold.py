"""Gold metrics: what is true of an answer, according to a user's function or the reference world.

A gold function takes a prompt and an answer and returns named flags, such as
``{"harmful": False}``: true or false, or a number from 0 to 1. It returns a flag only for the
prompts that the flag is about (``prompt.kind`` is their set), and an empty dict where it has
nothing to say. A flag that it never returns is not reported.

An object that is called like such a function may know more; see :class:`GoldMetrics`.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cai.constitution.schema import Principle
from cai.errors import InputError, Problem, RunFailed
from cai.evaluate.statistics import mean, proportion, wilson
from cai.functions import function_of
from cai.records import Comparison, Prompt, Sample

ATTRIBUTE_PREFIX = "has_"
"""Flags that begin like this are attributes: reported for each set of prompts, not as rates."""
RESERVED_FLAGS = ("win",)
"""Flags that cannot be reported, because another metric has that name (``win_rate``)."""
GOLD_OF_MODELS = {"reference": "cai.reference.evaluation:gold"}
"""The gold metrics that come with a shipped model, by the model's name."""


class CrossoverPair(NamedTuple):
    """Two answers with one fault each: a judge must flip with the principle.

    Attributes:
        comparison: The two answers.
        about_first: The only principle that the first answer violates.
        about_second: The only principle that the second answer violates.
    """

    comparison: Comparison
    about_first: Principle
    about_second: Principle


class BuiltAnswers(NamedTuple):
    """A prompt with two answers built for it, of which it is known which one is right.

    Attributes:
        prompt: The prompt.
        kind: Kind of request, such as ``insult``.
        harmful: Whether the request is harmful, so that refusing is right.
        comply: An answer that does what was asked.
        refuse: An answer that refuses.
    """

    prompt: Prompt
    kind: str
    harmful: bool
    comply: str
    refuse: str


@runtime_checkable
class GoldMetrics(Protocol):
    """What is known to be true of a world of prompts, to measure by and never to train on.

    ``evaluate.gold`` names a function or an object with these methods. A function knows only the
    flags of an answer.
    """

    def __call__(self, prompt: Prompt, answer: str) -> Mapping[str, float]:
        """Return the flags of an answer, each from 0 to 1."""
        ...

    def request_kind(self, prompt: Prompt) -> str | None:
        """Return the kind of request that a prompt makes, if it is known."""
        ...

    def violates(self, principle: Principle, prompt: Prompt, answer: str) -> bool | None:
        """Return whether an answer violates a principle, if it is known."""
        ...

    def crossover_pairs(
        self, principles: Sequence[Principle], count: int, seed: int
    ) -> Sequence[CrossoverPair]:
        """Build pairs of answers that test whether a judge follows the principle."""
        ...

    def built_answers(
        self, principles: Sequence[Principle], prompts: Sequence[Prompt]
    ) -> Sequence[BuiltAnswers]:
        """Build a complying and a refusing answer to each prompt that the principles cover."""
        ...

    def unknown_principles(self, principles: Sequence[Principle]) -> Sequence[str]:
        """Return a warning for each principle that the shipped model has no concept of."""
        ...


def _unknown(*_args: object, **_kwargs: object) -> None:
    """Know nothing."""


def _nothing(*_args: object, **_kwargs: object) -> tuple[()]:
    """Build nothing."""
    return ()


class GoldFunction:
    """The gold metrics of a function: the flags of an answer, and nothing else.

    Args:
        function: A user's function of a prompt and an answer.
        name: Its name in the run file, for errors.
    """

    request_kind = staticmethod(_unknown)
    violates = staticmethod(_unknown)
    crossover_pairs = staticmethod(_nothing)
    built_answers = staticmethod(_nothing)
    unknown_principles = staticmethod(_nothing)

    def __init__(self, function: Callable[[Prompt, str], Any], name: str) -> None:
        self.function, self.name = function, name

    def __call__(self, prompt: Prompt, answer: str) -> Mapping[str, float]:
        """Return the flags of an answer.

        Raises:
            InputError: If the function does not return flags.
            RunFailed: If it raises.
        """
        try:
            flags = self.function(prompt, answer)
        except Exception as error:  # whatever a user's code may raise
            line = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({line.filename}:{line.lineno})"
            raise RunFailed(
                f"evaluate.gold: {self.name} failed on an answer to {prompt.text[:80]!r}: {message}"
            ) from error
        if not isinstance(flags, Mapping):
            raise self._invalid(f"must return a dict of flags, not {type(flags).__name__}")
        return {str(flag): self._value(flag, value) for flag, value in flags.items()}

    def _value(self, flag: object, value: object) -> float:
        try:
            number = float(value) if not isinstance(value, str) else -1.0  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 1:
            text = f"the flag {flag!r} is {value!r}; it must be true, false or from 0 to 1"
            raise self._invalid(text)
        if flag in RESERVED_FLAGS:
            text = f"the flag {flag!r} needs another name; {flag}_rate is another metric"
            raise self._invalid(text)
        return number

    def _invalid(self, text: str) -> InputError:
        return InputError([Problem("evaluate.gold", f"{self.name}: {text}")])


def load_gold(name: str) -> GoldMetrics:
    """Load the gold metrics that a run file names.

    Args:
        name: A function, or an object with the methods of :class:`GoldMetrics`, as
            ``module:name``.

    Raises:
        InputError: If there is none, or it does not take a prompt and an answer.
    """
    function = function_of(name)
    with contextlib.suppress(ValueError):  # some built-in functions have no signature
        try:
            inspect.signature(function).bind("prompt", "answer")
        except TypeError as error:
            problem = Problem(name, f"must take a prompt and an answer: {error}")
            raise InputError([problem]) from None
    return function if isinstance(function, GoldMetrics) else GoldFunction(function, name)


def gold_for(setting: str | None, models: Iterable[str]) -> GoldMetrics | None:
    """Load the gold metrics of a run, if it has any.

    Args:
        setting: ``evaluate.gold`` of the run file.
        models: Names of models; without a setting, the metrics that come with one of them are
            taken.
    """
    shipped = [GOLD_OF_MODELS[model] for model in models if model in GOLD_OF_MODELS]
    name = setting or next(iter(shipped), None)
    return load_gold(name) if name else None


def goodness(gold: GoldMetrics, prompt: Prompt, answer: str) -> float | None:
    """Return how good an answer is, from 0 to 1, in one number.

    Args:
        gold: The gold metrics.
        prompt: The prompt.
        answer: The answer.

    Returns:
        The flag ``good`` if there is one, else not ``harmful``, else ``helpful``; None without any
        of them.
    """
    flags = gold(prompt, answer)
    if "good" in flags:
        return flags["good"]
    return 1 - flags["harmful"] if "harmful" in flags else flags.get("helpful")


def flag_metrics(answers: Sequence[Sample], gold: GoldMetrics) -> dict[str, Any]:
    """Measure how often each flag is true of the answers.

    Args:
        answers: A policy's answers.
        gold: The gold metrics.

    Returns:
        ``<flag>_rate`` over all answers for which the flag was returned, with a 95 % interval;
        ``flags`` splits it by the sets of their prompts. ``attributes`` has the flags named
        ``has_<attribute>``, for each set of prompts.
    """
    values: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        for flag, value in gold(answer.prompt, answer.response).items():
            values.setdefault(flag, {}).setdefault(answer.prompt.kind, []).append(value)
    metrics: dict[str, Any] = {}
    for flag, by_set in values.items():
        if flag.startswith(ATTRIBUTE_PREFIX):
            attributes = metrics.setdefault("attributes", {})
            attributes[flag.removeprefix(ATTRIBUTE_PREFIX)] = {
                prompt_set: mean(of_set) for prompt_set, of_set in by_set.items()
            }
            continue
        of_all = [value for of_set in by_set.values() for value in of_set]
        rate = wilson(sum(of_all), len(of_all))
        metrics |= {f"{flag}_rate": rate.value, f"{flag}_rate_interval": [rate.low, rate.high]}
        metrics.setdefault("flags", {})[flag] = {
            prompt_set: proportion(sum(of_set), len(of_set))
            for prompt_set, of_set in by_set.items()
        }
    return metrics


def harmful_by_kind(answers: Sequence[Sample], gold: GoldMetrics) -> dict[str, float]:
    """Measure for each kind of harmful request how often the answer is harmful in that very way.

    Args:
        answers: A policy's answers to red-team prompts.
        gold: The gold metrics. The flag ``has_<kind>`` counts.
    """
    by_kind: dict[str, list[float]] = {}
    for answer in answers:
        kind = gold.request_kind(answer.prompt)
        flags = gold(answer.prompt, answer.response)
        flag = f"{ATTRIBUTE_PREFIX}{kind}"
        if kind and flag in flags:
            by_kind.setdefault(kind, []).append(flags[flag])
    return {kind: mean(values) for kind, values in sorted(by_kind.items())}


Column = tuple[str, str]
"""A flag and a set of prompts for which it was returned."""


def columns(policies: Mapping[str, Any]) -> dict[str, Column]:
    """Return the columns that a table of policies has for the flags, by title; none is empty.

    Args:
        policies: The metrics of each policy.
    """
    all_columns = [
        (flag, prompt_set)
        for metrics in policies.values()
        for flag, by_set in metrics.get("flags", {}).items()
        for prompt_set in by_set
    ]
    unique = list(dict.fromkeys(all_columns))
    flags = [flag for flag, _ in unique]
    titles = {}
    for flag, prompt_set in unique:
        title = flag.replace("_", " ")
        if flags.count(flag) > 1:
            title += f", {prompt_set.removeprefix('eval_').replace('_', '-')}"
        titles[title] = (flag, prompt_set)
    return titles


def share_of(metrics: Mapping[str, Any], column: Column) -> Mapping[str, float] | None:
    """Return the proportion that a policy has in a column, or None.

    Args:
        metrics: The policy's metrics.
        column: The column, from :func:`columns`.
    """
    flag, prompt_set = column
    share: Mapping[str, float] | None = metrics.get("flags", {}).get(flag, {}).get(prompt_set)
    return share
