"""Agreement of a judge with people: its labels on comparisons that also have human ones.

Accuracy and Cohen's kappa have bootstrap intervals over prompts, because comparisons of one prompt
are not independent. Beside them are the baselines that a judge has to beat without being a judge:
the first answer always wins, the longer answer always wins.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cai.evaluate.statistics import expected_calibration_error, mean, reliability
from cai.records import Comparison, Preference
from cai.ties import is_near_tie
from cai.words import words

BOOTSTRAP_DRAWS = 1000


class MatchedPair(NamedTuple):
    """A comparison with a label by the judge and one by people.

    Attributes:
        comparison: The two answers.
        judge: The judge's probability that the first answer is better.
        human: The same by people.
        principles: The judge's probability by each principle alone.
    """

    comparison: Comparison
    judge: float
    human: float
    principles: Mapping[str, float]


def matched(judged: Sequence[Preference], human: Sequence[Preference]) -> list[MatchedPair]:
    """Match the comparisons that have both kinds of label, in either order of the answers.

    Args:
        judged: Labels by the judge.
        human: Labels by people. Several labels of one comparison count as their mean; ties are
            left out.
    """
    votes: dict[str, list[float]] = defaultdict(list)
    for preference in human:
        if preference.p_first is not None:
            votes[preference.comparison.id].append(preference.p_first)
            votes[preference.comparison.swap().id].append(1 - preference.p_first)
    by_comparison = {name: mean(labels) for name, labels in votes.items()}
    pairs = []
    for preference in judged:
        by_people = by_comparison.get(preference.comparison.id)
        if preference.p_first is None or by_people is None or by_people == 0.5:
            continue
        by_principle = {
            judgment.principle: judgment.p_first
            for judgment in preference.judgments
            if judgment.p_first is not None
        }
        pair = MatchedPair(preference.comparison, preference.p_first, by_people, by_principle)
        pairs.append(pair)
    return pairs


def agreement(pairs: Sequence[MatchedPair], seed: int = 0) -> dict[str, Any]:
    """Measure how well a judge agrees with people.

    Args:
        pairs: The comparisons, from :func:`matched`.
        seed: Random seed of the bootstrap.

    Returns:
        ``{"n": 0}`` without pairs. Otherwise accuracy, kappa (left out where it is not defined),
        the baselines, Brier score, calibration, and agreement by principle. ``beats_baselines``
        compares the lower end of the accuracy's interval with the best baseline.
    """
    if not pairs:
        return {"n": 0}
    accuracy = bootstrap(pairs, _accuracy, seed)
    kappa_interval = bootstrap(pairs, kappa, seed)
    baselines = {
        "first": mean([_correct(1.0, pair) for pair in pairs]),
        "longer": mean([_correct(_longer(pair.comparison), pair) for pair in pairs]),
    }
    best_baseline = max([0.5, *(max(value, 1 - value) for value in baselines.values())])
    truth = [float(pair.human > 0.5) for pair in pairs]
    predicted = [pair.judge for pair in pairs]
    bins = reliability(predicted, truth)
    metrics: dict[str, Any] = {"n": len(pairs), "accuracy": accuracy}
    if kappa_interval:
        metrics["kappa"] = kappa_interval
    return metrics | {
        "baselines": baselines,
        "beats_baselines": accuracy is not None and accuracy["low"] > best_baseline,
        "brier": mean([(p - t) ** 2 for p, t in zip(predicted, truth, strict=True)]),
        "ece": expected_calibration_error(bins),
        "calibration": [bin_._asdict() for bin_ in bins],
        "principles": agreement_by_principle(pairs),
    }


def kappa(pairs: Sequence[MatchedPair]) -> float | None:
    """Return Cohen's kappa of the two verdicts; an undecided one counts as half of each.

    Args:
        pairs: The comparisons.

    Returns:
        None if both always name the same side, where kappa is not defined.
    """
    judge_first = mean([_verdict(pair.judge) for pair in pairs])
    human_first = mean([_verdict(pair.human) for pair in pairs])
    chance = judge_first * human_first + (1 - judge_first) * (1 - human_first)
    if chance >= 1:
        return None
    return (_accuracy(pairs) - chance) / (1 - chance)


def bootstrap(
    pairs: Sequence[MatchedPair],
    statistic: Callable[[Sequence[MatchedPair]], float | None],
    seed: int,
) -> dict[str, float] | None:
    """Compute a statistic with its 95 % bootstrap interval, drawing prompts with all their pairs.

    Args:
        pairs: The comparisons.
        statistic: A function of comparisons; None where it is not defined.
        seed: Random seed of the draws.

    Returns:
        ``value``, ``low``, ``high`` and ``n``; None if the statistic is not defined. Draws for
        which it is not defined are left out of the interval.
    """
    value = statistic(pairs)
    if value is None:
        return None
    by_prompt: dict[str, list[MatchedPair]] = defaultdict(list)
    for pair in pairs:
        by_prompt[pair.comparison.prompt.id].append(pair)
    clusters, rng = list(by_prompt.values()), random.Random(seed)
    values = []
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = rng.choices(clusters, k=len(clusters))
        drawn_value = statistic([pair for cluster in drawn for pair in cluster])
        if drawn_value is not None:
            values.append(drawn_value)
    values.sort()
    low, high = (values[round(quantile * (len(values) - 1))] for quantile in (0.025, 0.975))
    return {"value": value, "low": low, "high": high, "n": len(pairs)}


def agreement_by_principle(pairs: Sequence[MatchedPair]) -> dict[str, dict[str, float]]:
    """Return for each principle how often its clear verdicts agree with people, and how many.

    Args:
        pairs: The comparisons.
    """
    correct: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        for name, p_first in pair.principles.items():
            if not is_near_tie(p_first):
                correct[name].append(_correct(p_first, pair))
    return {
        name: {"n": len(values), "agrees": mean(values)} for name, values in sorted(correct.items())
    }


def _accuracy(pairs: Sequence[MatchedPair]) -> float:
    return mean([_correct(pair.judge, pair) for pair in pairs])


def _verdict(p_first: float) -> float:
    return 0.5 if p_first == 0.5 else float(p_first > 0.5)


def _correct(p_first: float, pair: MatchedPair) -> float:
    """1 for the side that people prefer, 0 for the other one, one half for neither."""
    return 0.5 if p_first == 0.5 else float((p_first > 0.5) == (pair.human > 0.5))


def _longer(comparison: Comparison) -> float:
    first, second = len(words(comparison.first)), len(words(comparison.second))
    return 0.5 if first == second else float(first > second)
