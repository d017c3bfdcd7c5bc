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
PROOF_PROBABILITY = 0.01
"""The same, below which examples prove that a judge follows the principles."""
MIN_REPEATS = 24
"""Verdicts asked for twice from which a judge must be better than a coin."""
REPEAT_PROBABILITY = 0.05
"""The same as ``COIN_PROBABILITY`` for verdicts asked for twice, of which there are many."""


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
        metrics: The labels, as :func:`cai.evaluate.audit.audit` measures them. If they were
            measured, agreement with people is under ``human``, verdicts asked for again under
            ``asked_again``, the judge's results on a shipped constitution under
            ``shipped_examples``, and the agreement of several judges under ``judges``.
        judge_tests: The judge, as :func:`cai.evaluate.judge_tests.judge_test_metrics` measures it.
        settings: The limits, by the names of the ``audit`` section.

    Returns:
        One sentence for each broken limit.
    """
    failures = _broken(_label_limits(metrics, settings), settings)
    failures += _all_tied(metrics, settings)
    failures += _mass_of_judges(metrics, settings) or mass_failures(
        metrics["option_mass"], settings
    )
    failures += _again_failures(metrics, settings)
    if not any(map(_is_proven, (judge_tests, metrics.get("shipped_examples", {})))):
        failures += _order_failures(metrics, settings)
    failures += _broken(_judge_limits(judge_tests, settings), settings)
    if not failures:
        failures += _coin_failures(judge_tests, settings, "the constitution's {n} examples")
        shipped = metrics.get("shipped_examples")
        if shipped:
            name = shipped["constitution"]
            of = f"the {{n}} examples of the shipped constitution {name}"
            failures += _coin_failures(shipped, settings, of)
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


def _all_tied(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Stop if no label prefers an answer, also if there are too few labels for an interval."""
    near_ties, bound = metrics["near_ties"], settings["max_near_ties"]
    too_few = near_ties["n"] < MIN_EXAMPLES or near_ties["low"] > bound
    if bound >= 1 or too_few or near_ties["value"] < 1:
        return []
    return [f"all {near_ties['n']} labels are near one half (max_near_ties {bound:.0%})"]


def mass_failures(mass: Mapping[str, float], settings: Mapping[str, float]) -> list[str]:
    """Stop a judge that would rather write something else than one of the options.

    Args:
        mass: What :func:`cai.evaluate.audit.option_mass` measures.
        settings: The limits, by the names of the ``audit`` section.

    Returns:
        One sentence if the limit is broken.
    """
    bound = settings["min_option_mass"]
    if not mass["n"] or mass["high"] >= bound:
        return []
    return [
        f"the judge puts {mass['median']:.0%} of its probability on the options that it is asked "
        f"for (min_option_mass {bound:.0%}): its verdicts are read from what it hardly ever says"
    ]


def _mass_of_judges(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Find the judges, of several, that would rather write something else than an option."""
    by_judge = metrics.get("judges", {}).get("by_judge", {})
    return [
        f"{name}: {failure}"
        for name, measured in by_judge.items()
        for failure in mass_failures(measured["option_mass"], settings)
    ]


def _is_proven(judge_tests: Mapping[str, Any]) -> bool:
    """Whether the examples show that the judge follows the principles.

    Then it is on pairs that a principle does not tell apart that the place of an answer decides,
    and the average over both orders is a tie, as it should be.
    """
    kinds = {"plain": 0.5, "crossed": 0.25}
    shares = {kind: judge_tests.get(kind, {"n": 0}) for kind in kinds}
    return all(
        share["n"] >= MIN_EXAMPLES and chance(share, kinds[kind]) <= PROOF_PROBABILITY
        for kind, share in shares.items()
    )


def _order_failures(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Stop a judge whose clear verdicts do not stay the same when the answers change places."""
    when = "in both orders of the answers"
    return _repeat_failures(metrics["position"]["same_in_both_orders"], settings, when)


def _again_failures(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Stop a judge whose clear verdicts do not stay the same when it is asked again."""
    return _repeat_failures(
        metrics.get("asked_again", {"n": 0}), settings, "when the judge is asked again"
    )


def _repeat_failures(
    share: Mapping[str, float], settings: Mapping[str, float], when: str
) -> list[str]:
    bound = settings["min_order_consistency"]
    if not bound or not share["n"]:
        return []
    is_worse = share["high"] < bound
    is_coin = share["n"] >= MIN_REPEATS and chance(share, bound) > REPEAT_PROBABILITY
    if not is_worse and not is_coin:
        return []
    kind = "less often than by chance" if is_worse else "no more often than by chance"
    return [
        f"{share['value']:.0%} of {share['n']} clear verdicts are the same {when}, {kind} "
        f"(min_order_consistency {bound:.0%})"
    ]


def _coin_failures(
    judge_tests: Mapping[str, Any], settings: Mapping[str, float], of: str
) -> list[str]:
    """Stop a judge whose results on the examples are likely for a coin as well."""
    plain, crossed = judge_tests["plain"], judge_tests["crossed"]
    by_chance = min(
        chance(plain, settings["min_examples_accuracy"]),
        chance(crossed, settings["min_crossed_accuracy"]),
    )
    if plain["n"] < MIN_EXAMPLES or by_chance <= COIN_PROBABILITY:
        return []
    examples = of.format(n=plain["n"])
    text = f"the judge is no better than a coin: {plain['value']:.0%} of {examples} right"
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
