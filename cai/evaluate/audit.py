"""Audit of labels before anything is trained on them, from the records alone.

Position and length bias, ties, contradictions, collapsed answers, and how often each principle
decides. Whether the labels are *right* is another question: see :mod:`cai.evaluate.judge_tests` and
:mod:`cai.evaluate.agreement`. :mod:`cai.evaluate.gate` decides whether to train on them.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from statistics import median
from typing import Any

from cai.evaluate.statistics import Z95, correlation, mean, means, proportion
from cai.records import Judgment, Preference
from cai.ties import is_near_tie
from cai.words import words

NEAR_DUPLICATE = 0.8
"""Overlap from which two answers count as nearly the same."""
OPENING_WORDS = 4
"""Words at the start of an answer that count as its opening."""


def audit(preferences: Sequence[Preference]) -> dict[str, Any]:
    """Measure a set of labels.

    Args:
        preferences: The labels, unscored comparisons included.

    Returns:
        The metrics by name. Proportions without data are ``{"n": 0}``; other values without data
        are left out or None.
    """
    labeled = [p for p in preferences if p.p_first is not None]
    decided = [p for p in labeled if not is_near_tie(_p_first(p))]
    judgments = [judgment for p in preferences for judgment in p.judgments]
    metrics: dict[str, Any] = {
        "n": len(preferences),
        "unscored": proportion(len(preferences) - len(labeled), len(preferences)),
        "near_ties": proportion(len(labeled) - len(decided), len(labeled)),
        "position": position_bias(decided, judgments),
        "length": length_bias(decided),
        "option_mass": option_mass(judgments),
    }
    pairs = [(p.comparison.first, p.comparison.second) for p in preferences]
    metrics |= means(
        identical=[float(first.split() == second.split()) for first, second in pairs],
        near_duplicates=[
            float(bigram_jaccard(first, second) >= NEAR_DUPLICATE) for first, second in pairs
        ],
    )
    if preferences:
        metrics["unique_answers"] = unique_answers(preferences)
    return metrics | {
        "most_common": most_common(preferences),
        "contradictions": contradictions(decided),
        "principles": by_principle(labeled),
    }


def _p_first(preference: Preference) -> float:
    assert preference.p_first is not None
    return preference.p_first


def position_bias(decided: Sequence[Preference], judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Measure how much the order of two answers matters.

    Args:
        decided: Labels that are not near ties.
        judgments: All judgments behind the labels.

    Returns:
        ``first_wins``: how often the first answer wins, one half without bias. ``first_letter``:
        the mean probability of the first letter over both orders, one half without bias.
        ``order_consistency``: see :func:`order_consistency`. These two are None if no judgment
        asked in both orders. ``same_in_both_orders``: of the judgments that are no near tie in at
        least one order, how many prefer the same answer in both.
    """
    in_orders = [orders for j in judgments if (orders := by_order(j)) is not None]
    swapped = [j.evidence for j in judgments if "p_A_order_2" in j.evidence]
    letters = [(e["p_A_order_1"] + e["p_A_order_2"]) / 2 for e in swapped]
    return {
        "first_wins": proportion(sum(_p_first(p) > 0.5 for p in decided), len(decided)),
        "first_letter": mean(letters) if letters else None,
        "order_consistency": order_consistency(judgments),
        "same_in_both_orders": same_verdicts(in_orders),
    }


def by_order(judgment: Judgment) -> tuple[float, float] | None:
    """Return the probability of the first answer in each order; None if there was one order only.

    Args:
        judgment: A judgment of any method.
    """
    evidence = judgment.evidence
    if "p_A_order_2" in evidence:
        return evidence["p_A_order_1"], 1 - evidence["p_A_order_2"]
    if "share_order_2" in evidence:
        return evidence["share_order_1"], evidence["share_order_2"]
    return None


def same_verdicts(asked_twice: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Count the verdicts that stay the same when a judge is asked a second time.

    Args:
        asked_twice: The probability of the first answer each time. What is a near tie both times
            is left out.

    Returns:
        The proportion that prefers the same answer both times.
    """
    decided = [(a, b) for a, b in asked_twice if not (is_near_tie(a) and is_near_tie(b))]
    return proportion(sum((a - 0.5) * (b - 0.5) > 0 for a, b in decided), len(decided))


def option_mass(judgments: Sequence[Judgment]) -> dict[str, float]:
    """Measure the probability that the judge's answer begins with one of the options.

    Args:
        judgments: Judgments of any method.

    Returns:
        The ``median`` over ``n`` judgments, and its 95 % interval ``low`` to ``high``, which two of
        the judgments are the ends of; only ``n`` if there are none.
    """
    masses = sorted(mean(j.option_mass) for j in judgments if j.option_mass)
    n = len(masses)
    if not n:
        return {"n": 0}
    reach = Z95 * math.sqrt(n) / 2  # of the rank of the median
    low = masses[max(0, math.floor((n - 1) / 2 - reach))]
    high = masses[min(n - 1, math.ceil((n - 1) / 2 + reach))]
    return {"median": median(masses), "low": low, "high": high, "n": n}


def order_consistency(judgments: Sequence[Judgment]) -> float | None:
    """Return the share of judgments that prefer the same answer in both orders.

    Args:
        judgments: Judgments of any method.

    Returns:
        None if no judgment asked in both orders.
    """
    swapped = [j.evidence for j in judgments if "p_A_order_2" in j.evidence]
    same = [float((e["p_A_order_1"] > 0.5) == (e["p_A_order_2"] < 0.5)) for e in swapped]
    return mean(same) if same else None


def length_bias(decided: Sequence[Preference]) -> dict[str, Any]:
    """Measure how much the length of an answer, in words, decides.

    Args:
        decided: Labels that are not near ties.

    Returns:
        ``longer_wins``: how often the longer answer wins; ``correlation`` of the label with the
        difference of the log lengths.
    """
    labels, differences, longer_wins = [], [], []
    for preference in decided:
        label = _p_first(preference)
        first = len(words(preference.comparison.first))
        second = len(words(preference.comparison.second))
        labels.append(label)
        differences.append(math.log((first + 1) / (second + 1)))
        if first != second:
            longer_wins.append((label > 0.5) == (first > second))
    return {
        "longer_wins": proportion(sum(longer_wins), len(longer_wins)),
        "correlation": correlation(labels, differences),
    }


def unique_answers(preferences: Sequence[Preference]) -> float:
    """Return the share of different texts among all answers; it is low after a policy collapsed."""
    answers = [" ".join(answer) for answer in _answers(preferences)]
    return len(set(answers)) / len(answers)


def bigram_jaccard(first: str, second: str) -> float:
    """Return the Jaccard overlap of the word bigrams of two texts; 1 for two empty texts."""
    bigrams_first = set(pairwise(["", *words(first.lower())]))
    bigrams_second = set(pairwise(["", *words(second.lower())]))
    union = bigrams_first | bigrams_second
    return len(bigrams_first & bigrams_second) / len(union) if union else 1.0


def most_common(preferences: Sequence[Preference]) -> dict[str, dict[str, Any]]:
    """Find the most common answer and the most common opening, with their shares.

    When a policy collapses, one of them grows.
    """
    answers = _answers(preferences)
    if not answers:
        return {}
    found = {}
    for name, length in (("answer", None), ("opening", OPENING_WORDS)):
        counts = Counter(" ".join(answer[:length]) for answer in answers)
        text, count = counts.most_common(1)[0]
        found[name] = {"text": text, "share": count / len(answers)}
    return found


def _answers(preferences: Sequence[Preference]) -> list[list[str]]:
    """The words of all answers."""
    pairs = [p.comparison for p in preferences]
    return [words(text) for pair in pairs for text in (pair.first, pair.second)]


def contradictions(decided: Sequence[Preference]) -> dict[str, int]:
    """Count the triples of answers to one prompt that were all compared, and the cycles in them.

    Args:
        decided: Labels that are not near ties.

    Returns:
        ``triples``, and ``cycles`` of the kind A > B > C > A.
    """
    better: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
    for preference in decided:
        pair, label = preference.comparison, _p_first(preference)
        better[pair.prompt.id][pair.first, pair.second] = label > 0.5
        better[pair.prompt.id][pair.second, pair.first] = label < 0.5
    triples = cycles = 0
    for wins in better.values():
        texts = sorted({text for pair in wins for text in pair})
        for a, b, c in combinations(texts, 3):
            if (a, b) in wins and (b, c) in wins and (a, c) in wins:
                triples += 1
                cycles += wins[a, b] == wins[b, c] and wins[a, b] != wins[a, c]
    return {"triples": triples, "cycles": cycles}


def by_principle(labeled: Sequence[Preference]) -> dict[str, Mapping[str, float]]:
    """Measure what each principle contributes.

    Args:
        labeled: Preferences with a label.

    Returns:
        For each principle ``n`` judgments, the share that ``decides`` (is not near a tie), and of
        those the share that ``agrees`` with the final label, if there are any.
    """
    verdicts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for preference in labeled:
        for judgment in preference.judgments:
            if judgment.p_first is not None:
                verdicts[judgment.principle].append((judgment.p_first, _p_first(preference)))
    metrics: dict[str, Mapping[str, float]] = {}
    for name, pairs in sorted(verdicts.items()):
        deciding = [(verdict, label) for verdict, label in pairs if not is_near_tie(verdict)]
        agreeing = [
            float((verdict > 0.5) == (label > 0.5)) for verdict, label in deciding if label != 0.5
        ]
        metrics[name] = {
            "n": len(pairs),
            "decides": len(deciding) / len(pairs),
            **means(agrees=agreeing),
        }
    return metrics
