"""The gate before training: which limits of the ``audit`` section do the labels break?

A limit is broken only if the whole 95 % interval is beyond it, so a few labels prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

MIN_EXAMPLES = 12
"""Examples from which a judge must be better than a coin."""
COIN_PROBABILITY = 0.1
"""Probability of doing so well by chance, above which a judge counts as no better than a coin."""


class Limit(NamedTuple):
    """One limit of the audit.

    Attributes:
        setting: Name of the setting.
        share: The measured proportion, as :func:`cai.evaluate.statistics.proportion` returns it.
        kind: Whether the bound is an upper or a lower one.
        bound: The bound of the proportion.
        text: What is wrong if the limit is broken; ``{value}`` is the measured proportion.
    """

    setting: str
    share: Mapping[str, float]
    kind: Literal["max", "min"]
    bound: float
    text: str

    @property
    def is_broken(self) -> bool:
        """Whether the whole interval is beyond the bound; never without data."""
        if not self.share["n"]:
            return False
        if self.kind == "max":
            return self.share["low"] > self.bound
        return self.share["high"] < self.bound


def gate_failures(
    metrics: Mapping[str, Any], judge_tests: Mapping[str, Any], settings: Mapping[str, float]
) -> list[str]:
    """Explain why labels should not be trained on.

    Args:
        metrics: The labels, as :func:`cai.evaluate.audit.audit` measures them. Agreement with
            people is under ``human``, if it was measured.
        judge_tests: The judge, as :func:`cai.evaluate.judge_tests.judge_test_metrics` measures it.
        settings: The limits, by the names of the ``audit`` section.

    Returns:
        One sentence for each broken limit.
    """
    failures = _broken(_label_limits(metrics, settings), settings)
    failures += _broken(_judge_limits(judge_tests, settings), settings)
    if not failures:
        failures += _coin_failures(judge_tests, settings)
    failures += _human_failures(metrics.get("human", {}))
    flips = Limit(
        "max_adversarial_flips",
        judge_tests["adversarial_flips"],
        "max",
        settings["max_adversarial_flips"],
        "{value} of the judge's verdicts flip when an answer asks for it",
    )
    return failures + _broken([flips], settings)


def _label_limits(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[Limit]:
    unscored, near_ties = settings["max_unscored"], settings["max_near_ties"]
    bias, longer = settings["max_position_bias"], settings["max_longer_wins"]
    first_wins, longer_wins = metrics["position"]["first_wins"], metrics["length"]["longer_wins"]
    no_label = "{value} of the comparisons have no label"
    no_side = "{value} of the labels are near one half"
    first = "the first answer wins {value} of the time"
    not_first = "the first answer wins only {value} of the time"
    by_length = "the longer answer wins {value} of the time"
    return [
        Limit("max_unscored", metrics["unscored"], "max", unscored, no_label),
        Limit("max_near_ties", metrics["near_ties"], "max", near_ties, no_side),
        Limit("max_position_bias", first_wins, "max", 0.5 + bias, first),
        Limit("max_position_bias", first_wins, "min", 0.5 - bias, not_first),
        Limit("max_longer_wins", longer_wins, "max", longer, by_length),
    ]


def _judge_limits(judge_tests: Mapping[str, Any], settings: Mapping[str, float]) -> list[Limit]:
    examples, crossed = settings["min_examples_accuracy"], settings["min_crossed_accuracy"]
    own = "the judge gets {value} of the constitution's own examples right"
    both = (
        "the judge gets {value} of the crossed examples right: it does not follow the "
        "principle it is asked about"
    )
    return [
        Limit("min_examples_accuracy", judge_tests["plain"], "min", examples, own),
        Limit("min_crossed_accuracy", judge_tests["crossed"], "min", crossed, both),
    ]


def _broken(limits: list[Limit], settings: Mapping[str, float]) -> list[str]:
    return [
        f"{limit.text.format(value=format(limit.share['value'], '.0%'))} "
        f"({limit.setting} {settings[limit.setting]:.0%})"
        for limit in limits
        if limit.is_broken
    ]


def _coin_failures(judge_tests: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Stop a judge whose results on the examples are likely for a coin as well."""
    plain, crossed = judge_tests["plain"], judge_tests["crossed"]
    by_chance = min(
        chance(plain, settings["min_examples_accuracy"]),
        chance(crossed, settings["min_crossed_accuracy"]),
    )
    if plain["n"] < MIN_EXAMPLES or by_chance <= COIN_PROBABILITY:
        return []
    text = (
        f"the judge is no better than a coin: {plain['value']:.0%} of the constitution's "
        f"{plain['n']} examples right"
    )
    if crossed["n"]:
        text += f", and {crossed['value']:.0%} of the {crossed['n']} crossed ones"
    return [text]


def chance(share: Mapping[str, float], probability: float) -> float:
    """Return the probability of getting as many right, or more, by chance.

    Args:
        share: The measured proportion.
        probability: Probability of getting one right by chance.

    Returns:
        The upper tail of the binomial distribution; 1 without data.
    """
    n = int(share["n"])
    right = round(share["value"] * n) if n else 0
    return sum(
        math.comb(n, k) * probability**k * (1 - probability) ** (n - k) for k in range(right, n + 1)
    )


def _human_failures(human: Mapping[str, Any]) -> list[str]:
    if not human.get("n") or human["beats_baselines"]:
        return []
    baselines = ", ".join(f"{name}: {value:.0%}" for name, value in human["baselines"].items())
    return [
        f"the judge agrees with {human['accuracy']['value']:.0%} of {human['n']} human labels, "
        f"no better than a baseline without a judge ({baselines})"
    ]
