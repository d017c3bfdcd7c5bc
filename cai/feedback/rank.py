"""``rank``: several answers to a prompt, in the order that the judge's verdicts on all their pairs speak for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from cai.arguments import check_records
from cai.backends.protocol import Model
from cai.cleaning import clean
from cai.constitution.schema import Constitution
from cai.errors import ArgumentError
from cai.feedback.judge import judge
from cai.feedback.judge_methods import JudgeMethod
from cai.records import Comparison, Preference, Prompt, Ranking

PRIOR = 0.1
"""Draws that every answer is given against one of strength zero, so that one which always wins has a finite strength."""


def rank(
    prompt: Prompt,
    answers: Sequence[str],
    constitution: Constitution,
    model: Model,
    method: JudgeMethod | str,
    *,
    seed: int = 0,
    **how: Any,
) -> Ranking:
    """Judge all pairs of the answers, as :func:`cai.judge` does (``how`` goes to it), and put the answers in order.

    Raises:
        ArgumentError: if there are no answers, or two of them are the same.
    """
    check_records("prompt", [prompt], Prompt)
    check_records("answers", answers, str)
    answers = [clean(answer) for answer in answers]
    if not answers:
        raise ArgumentError("answers", "is empty; there is nothing to rank")
    if len(set(answers)) < len(answers):
        raise ArgumentError("answers", "two answers are the same; a ranking is of different ones")
    pairs = [Comparison.of(prompt, one, other) for one, other in combinations(answers, 2)]
    return ranking(prompt, answers, judge(pairs, constitution, model, method, seed=seed, **how))


def rankings(preferences: Sequence[Preference]) -> list[Ranking]:
    """One ranking for each prompt of some labels, of all answers that stand in them."""
    found: dict[str, list[Preference]] = defaultdict(list)
    for preference in preferences:
        found[preference.comparison.prompt.id].append(preference)
    return [
        ranking(
            labels[0].comparison.prompt,
            [*dict.fromkeys(t for p in labels for t in (p.comparison.first, p.comparison.second))],
            labels,
        )
        for labels in found.values()
    ]


def ranking(prompt: Prompt, answers: Sequence[str], preferences: Sequence[Preference]) -> Ranking:
    """The answers, best first, by the strengths that fit the labels best; without a label all are alike."""
    place = {answer: i for i, answer in enumerate(answers)}
    wins: dict[tuple[int, int], float] = defaultdict(float)
    for preference in preferences:
        if preference.p_first is not None:
            first, second = place[preference.comparison.first], place[preference.comparison.second]
            wins[first, second] += preference.p_first
            wins[second, first] += 1 - preference.p_first
    fitted = strengths(wins, len(answers))
    order = sorted(range(len(answers)), key=lambda i: -fitted[i])
    return Ranking(
        prompt=prompt,
        answers=tuple(answers[i] for i in order),
        strengths=tuple(fitted[i] for i in order),
    )


def strengths(
    wins: Mapping[tuple[int, int], float], count: int, prior: float = PRIOR
) -> list[float]:
    """Bradley–Terry strengths ``s`` with ``P(i beats j) = sigmoid(s_i - s_j)``, the most likely ones for some wins.

    ``wins[i, j]`` is how often, or how surely, ``i`` beat ``j``. By minorisation and maximisation (Hunter 2004, equation 3),
    with ``prior`` draws of every item against one of strength zero.
    """
    games = {pair: won + wins.get((pair[1], pair[0]), 0.0) for pair, won in wins.items()}
    games |= {(j, i): played for (i, j), played in games.items()}
    won = [prior / 2 + sum(wins.get((i, j), 0.0) for j in range(count)) for i in range(count)]
    weights = [1.0] * count
    for _ in range(10_000):
        before = weights
        weights = [
            won[i]
            / (
                prior / (before[i] + 1)
                + sum(
                    games.get((i, j), 0.0) / (before[i] + before[j]) for j in range(count) if j != i
                )
            )
            for i in range(count)
        ]
        if max(abs(math.log(new / old)) for new, old in zip(weights, before, strict=True)) < 1e-9:
            break
    return [math.log(weight) for weight in weights]
