"""Rank the answers to one prompt: what can be ranked, and the labels that a ranking is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from cai.keys import shuffled
from cai.records import Comparison, Preference, Prompt
from cai.studio.labels import row_of

MIN_ANSWERS, MAX_ANSWERS = 3, 9
"""Answers of one prompt that are ranked: two are a pair, and a key can choose among nine."""


class Ranked(NamedTuple):
    """Different answers to one prompt.

    Attributes:
        prompt: The prompt.
        answers: The answers, in the order of their file.
        pairs: The comparisons of them that there are, by the numbers of their answers.
    """

    prompt: Prompt
    answers: tuple[str, ...]
    pairs: Mapping[tuple[int, int], Comparison]


def answers_of(records: Sequence[Preference]) -> Ranked | None:
    """Collect the answers to a prompt from the comparisons of it; None if there are too few.

    Args:
        records: Labels with the same prompt, at least one.
    """
    numbers: dict[str, int] = {}
    pairs: dict[tuple[int, int], Comparison] = {}
    for pair in (record.comparison for record in records):
        both = (pair.first, pair.second)
        if not all(answer.strip() for answer in both):
            continue
        if len({*numbers, *both}) <= MAX_ANSWERS:
            first, second = (numbers.setdefault(answer, len(numbers)) for answer in both)
            pairs[first, second] = pair
    if len(numbers) < MIN_ANSWERS:
        return None
    return Ranked(records[0].comparison.prompt, tuple(numbers), pairs)


def shown_order(ranked: Ranked, rater: str) -> list[int]:
    """The order in which a rater sees the answers, by their numbers.

    Args:
        ranked: The answers.
        rater: Name of the rater.
    """
    return shuffled(range(len(ranked.answers)), "rank", ranked.prompt.id, rater)


def ranking_rows(
    ranked: Ranked, best_first: Sequence[int], rater: str, principle: str = "", note: str = ""
) -> list[dict[str, Any]]:
    """Make the labels of all pairs of a ranking.

    Args:
        ranked: The answers.
        best_first: Numbers of answers, the best one first; those that are missing are equally good,
            and worse than these.
        rater: Name of the rater.
        principle: Id of the principle that the rater was asked by; empty for a ranking overall.
        note: What the rater remarked.

    Returns:
        One row for each pair, in the order of its comparison if there is one. All of them name the
        prompt as their group.
    """
    places = {number: place for place, number in enumerate(best_first)}
    rows = []
    for first, second in combinations(range(len(ranked.answers)), 2):
        if (second, first) in ranked.pairs:
            first, second = second, first
        comparison = ranked.pairs.get((first, second)) or Comparison.of(
            ranked.prompt, ranked.answers[first], ranked.answers[second]
        )
        lead = places.get(second, len(places)) - places.get(first, len(places))
        p_first = 0.5 if lead == 0 else float(lead > 0)
        group = ranked.prompt.id
        rows.append(row_of(comparison, p_first, rater, note=note, principle=principle, group=group))
    return rows


def is_new(ranked: Ranked, known: Collection[str]) -> bool:
    """Whether a ranking would label a pair that is not labeled yet.

    Args:
        ranked: The answers.
        known: Ids of the comparisons that are.
    """
    return any(row["pair"] not in known for row in ranking_rows(ranked, (), ""))
