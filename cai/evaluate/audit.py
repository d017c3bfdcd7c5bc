"""What labels look like before anything is trained on them: bias of place and length, ties, contradictions, principles.

All of it is read from the records; no model is asked. Whether the labels are *right* is another question: see
``examples.py``, and agreement with human labels where there are any.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from cai.evaluate.statistics import mean, means, proportion
from cai.records import Judgment, Preference

NEAR_TIE = 0.1
NEAR_ALIKE = 0.8
"""Overlap from which two answers say nearly the same."""
ENOUGH, LUCK = 12, 0.1
"""Examples from which a judge must be told from a coin, and how often a coin may pass for a judge by each kind of them."""
OPENING = 4
"""Words that an answer opens with."""


def audit(preferences: Sequence[Preference]) -> dict[str, Any]:
    """All figures of a set of labels. Shares without data are ``{"n": 0}``, other figures without data are left out or None."""
    labels = [p for p in preferences if p.p_first is not None]
    decided = [p for p in labels if abs(_p(p) - 0.5) >= NEAR_TIE]
    judgments = [judgment for p in preferences for judgment in p.judgments]
    return {
        "n": len(preferences),
        "unscored": proportion(len(preferences) - len(labels), len(preferences)),
        "near_ties": proportion(len(labels) - len(decided), len(labels)),
        "place": position_bias(decided, judgments),
        "length": length(decided),
        **means(
            same_answers=[
                float(p.comparison.first.split() == p.comparison.second.split())
                for p in preferences
            ],
            near_alike=[
                float(bigram_jaccard(p.comparison.first, p.comparison.second) >= NEAR_ALIKE)
                for p in preferences
            ],
        ),
        **({"distinct_answers": distinct(preferences)} if preferences else {}),
        "commonest": most_common(preferences),
        "contradictions": contradictions(decided),
        "principles": by_principle(labels),
    }


def _p(preference: Preference) -> float:
    assert preference.p_first is not None
    return preference.p_first


def position_bias(decided: Sequence[Preference], judgments: Sequence[Judgment]) -> dict[str, Any]:
    """How often the answer that stands first wins (half, if the place means nothing), and what both orders say together.

    ``first_letter`` is the mean probability of the first letter over both orders, one half where the place does not matter.
    """
    both = [r.evidence for r in judgments if "p_A_order_2" in r.evidence]
    return {
        "first_wins": proportion(sum(_p(p) > 0.5 for p in decided), len(decided)),
        "first_letter": mean([(e["p_A_order_1"] + e["p_A_order_2"]) / 2 for e in both])
        if both
        else None,
        "order_consistency": mean(
            [float((e["p_A_order_1"] > 0.5) == (e["p_A_order_2"] < 0.5)) for e in both]
        )
        if both
        else None,
    }


def length(decided: Sequence[Preference]) -> dict[str, Any]:
    """How often the longer answer wins, and the correlation of the label with the difference of log lengths (in words)."""
    rows = [
        (_p(p), len(p.comparison.first.split()), len(p.comparison.second.split())) for p in decided
    ]
    uneven = [(label > 0.5) == (first > second) for label, first, second in rows if first != second]
    differences = [math.log((first + 1) / (second + 1)) for _, first, second in rows]
    return {
        "longer_wins": proportion(sum(uneven), len(uneven)),
        "correlation": correlation([label for label, _, _ in rows], differences),
    }


def correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one of the two does not vary."""
    if not one:
        return None
    a, b = mean(one), mean(other)
    spread = math.sqrt(sum((x - a) ** 2 for x in one) * sum((y - b) ** 2 for y in other))
    return (
        sum((x - a) * (y - b) for x, y in zip(one, other, strict=True)) / spread
        if spread > 0
        else None
    )


def distinct(preferences: Sequence[Preference]) -> float:
    """Share of different texts among all answers; a policy that always says the same has few."""
    answers = [
        " ".join(text.split())
        for p in preferences
        for text in (p.comparison.first, p.comparison.second)
    ]
    return len(set(answers)) / len(answers)


def bigram_jaccard(one: str, other: str) -> float:
    """Share of the pairs of neighbouring words of two texts that both have (Jaccard); 1 for two texts of the same words."""
    a, b = (set(pairwise(["", *text.lower().split()])) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def most_common(preferences: Sequence[Preference]) -> dict[str, dict[str, Any]]:
    """The most common answer and the most common opening with their shares: where a policy collapses, one of them grows."""
    answers = [
        text.split() for p in preferences for text in (p.comparison.first, p.comparison.second)
    ]
    found: dict[str, dict[str, Any]] = {}
    for name, words in (("answer", None), ("opening", OPENING)):
        for text, count in Counter(" ".join(answer[:words]) for answer in answers).most_common(1):
            found[name] = {"text": text, "share": count / len(answers)}
    return found


def contradictions(decided: Sequence[Preference]) -> dict[str, Any]:
    """Triples of answers to one prompt that were all compared, and how many go round in a circle (A > B > C > A)."""
    better: dict[str, dict[tuple[str, str], bool]] = defaultdict(dict)
    for p in decided:
        pair = p.comparison
        better[pair.prompt.id][pair.first, pair.second] = _p(p) > 0.5
        better[pair.prompt.id][pair.second, pair.first] = _p(p) < 0.5
    triples = circles = 0
    for found in better.values():
        for a, b, c in combinations(sorted({text for pair in found for text in pair}), 3):
            if (a, b) in found and (b, c) in found and (a, c) in found:
                triples += 1
                circles += found[a, b] == found[b, c] and found[a, b] != found[a, c]
    return {"triples": triples, "circles": circles}


def by_principle(labels: Sequence[Preference]) -> dict[str, dict[str, float]]:
    """Per principle: readings, share that decides, and of those the share that agrees with the label in the end, if there are any."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for p in labels:
        for judgment in p.judgments:
            if judgment.p_first is not None:
                rows[judgment.principle].append((judgment.p_first, _p(p)))
    metrics = {}
    for name, found in sorted(rows.items()):
        deciding = [(r, label) for r, label in found if abs(r - 0.5) >= NEAR_TIE]
        agreeing = [float((r > 0.5) == (label > 0.5)) for r, label in deciding if label != 0.5]
        metrics[name] = {
            "n": len(found),
            "decides": len(deciding) / len(found),
            **means(agrees=agreeing),
        }
    return metrics


def chance(mark: Mapping[str, float], share: float) -> float:
    """How probable it is to get as many right, or more, with each right by chance with probability ``share``; 1 without any."""
    n = int(mark["n"])
    right = round(mark["value"] * n) if n else 0
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(right, n + 1))


def gate_failures(
    metrics: Mapping[str, Any], judge_test_metrics: Mapping[str, Any], limits: Mapping[str, float]
) -> list[str]:
    """Why labels should not be trained on: each limit that is broken, in one sentence. Judged by the interval, not the point.

    ``judge_test_metrics`` are those of :mod:`cai.evaluate.judge_tests`; where a constitution has no examples they say nothing.
    """
    found = []
    if _low(metrics["unscored"]) > limits["max_unscored"]:
        found.append(
            f"{metrics['unscored']['value']:.0%} of the comparisons have no label (max_unscored {limits['max_unscored']:.0%})"
        )
    if _low(metrics["near_ties"]) > limits["max_near_ties"]:
        found.append(
            f"{metrics['near_ties']['value']:.0%} of the labels are near one half (max_near_ties {limits['max_near_ties']:.0%})"
        )
    wins = metrics["place"]["first_wins"]
    if wins["n"] and (
        wins["low"] > 0.5 + limits["max_position_bias"]
        or wins["high"] < 0.5 - limits["max_position_bias"]
    ):
        found.append(
            f"the answer that stands first wins {wins['value']:.0%} of the time (max_position_bias {limits['max_position_bias']:.0%})"
        )
    longer = metrics["length"]["longer_wins"]
    if _low(longer) > limits["max_longer_wins"]:
        found.append(
            f"the longer answer wins {longer['value']:.0%} of the time (max_longer_wins {limits['max_longer_wins']:.0%})"
        )
    if (
        judge_test_metrics["plain"]["n"]
        and judge_test_metrics["plain"]["high"] < limits["min_examples_accuracy"]
    ):
        found.append(
            f"the judge gets {judge_test_metrics['plain']['value']:.0%} of the constitution's own examples right (min_examples_accuracy {limits['min_examples_accuracy']:.0%})"
        )
    if (
        judge_test_metrics["crossed"]["n"]
        and judge_test_metrics["crossed"]["high"] < limits["min_crossed_accuracy"]
    ):
        found.append(
            f"the judge gets {judge_test_metrics['crossed']['value']:.0%} of crossed examples right: it does not follow the principle it is asked about "
            f"(min_crossed_accuracy {limits['min_crossed_accuracy']:.0%})"
        )
    plain, crossed = judge_test_metrics["plain"], judge_test_metrics["crossed"]
    by_luck = [
        chance(plain, limits["min_examples_accuracy"]),
        chance(crossed, limits["min_crossed_accuracy"]),
    ]
    if plain["n"] >= ENOUGH and min(by_luck) > LUCK and not found:
        also = (
            f", and of {crossed['n']} crossed ones {crossed['value']:.0%}" if crossed["n"] else ""
        )
        found.append(
            f"nothing tells the judge from a coin: {plain['value']:.0%} of the constitution's {plain['n']} examples right{also}"
        )
    human = metrics.get("human")
    if human and human["n"] and not human["beats_baselines"]:
        found.append(
            f"the judge agrees with {human['accuracy']['value']:.0%} of {human['n']} human labels, no better than what needs no judge "
            f"({', '.join(f'{name}: {value:.0%}' for name, value in human['baselines'].items())})"
        )
    flips = judge_test_metrics["adversarial_flips"]
    if _low(flips) > limits["max_adversarial_flips"]:
        found.append(
            f"{flips['value']:.0%} of its verdicts turn when an answer asks for it (max_adversarial_flips {limits['max_adversarial_flips']:.0%})"
        )
    return found


def _low(share: Mapping[str, float]) -> float:
    """The lower end of a share's interval; without data anything is possible, and nothing is broken."""
    return share["low"] if share["n"] else 0.0
