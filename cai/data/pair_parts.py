"""What the readers of preferences have in common: pairs, and how their parts are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from cai.cleaning import clean
from cai.data.prompts import prompt_in, prompt_of
from cai.data.tables import Row
from cai.errors import type_in_words
from cai.records import Prompt
from cai.validation import shown

SOURCE = "human"


class Pair(NamedTuple):
    """Two answers to a prompt.

    Attributes:
        prompt: The conversation that both answer.
        better: The answer that was preferred.
        worse: The other answer.
        p_better: Probability that ``better`` is the better one.
        source: Where the label comes from.
        margin: By how much it is better, in units of a reward; 0 if the data does not say.
    """

    prompt: Prompt
    better: str
    worse: str
    p_better: float = 1.0
    source: str = SOURCE
    margin: float = 0.0


Outcome = Pair | str
"""A pair, or the reason why there is none."""


def make_pair(
    prompt: Prompt | str,
    better: str,
    worse: str,
    p_better: float = 1.0,
    source: str = SOURCE,
    margin: float = 0.0,
) -> Outcome:
    """Make a pair of two texts, or say why they are none.

    Args:
        prompt: The prompt, or why there is none.
        better: The answer that was preferred.
        worse: The other answer.
        p_better: Probability that ``better`` is the better one.
        source: Where the label comes from.
        margin: By how much it is better, in units of a reward.
    """
    if isinstance(prompt, str):
        return prompt
    better, worse = clean(better).strip(), clean(worse).strip()
    if not better or not worse:
        return "an answer is empty"
    if better == worse:
        return "both answers are the same"
    return Pair(prompt, better, worse, p_better, source, margin)


def make_prompt(value: Any) -> Prompt | str:
    """Make a prompt of a text or of messages.

    Args:
        value: What the file has as the prompt.

    Returns:
        The prompt, or why there is none.
    """
    try:
        return prompt_of(value, SOURCE)
    except ValueError:
        return "no usable prompt"


def usable_prompt(row: Row) -> Prompt | str:
    """Make the prompt of a row, of all columns that say what is asked.

    Args:
        row: The row.

    Returns:
        The prompt, or why there is none.
    """
    try:
        return prompt_in(row, SOURCE)
    except ValueError:
        return "no usable prompt"


def text_in(row: Row, name: str) -> str:
    """Return the text in a column.

    Args:
        row: The row.
        name: The column.

    Raises:
        ValueError: If it is something else.
    """
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {type_in_words(value)}")
    return value


def number_of(value: Any, name: str) -> float:
    """Read a number, which is a text in CSV.

    Args:
        value: The number.
        name: What it is, for messages.

    Raises:
        ValueError: If it is none, or not finite.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, not {shown(value)}")
    return number


def by_score(prompt: Prompt | str, scored: Sequence[tuple[str, float]]) -> Iterator[Outcome]:
    """Pair all answers whose scores differ; the higher score wins.

    Args:
        prompt: The prompt, or why there is none.
        scored: The answers with their scores.

    Yields:
        The pairs, or the reason why there is none.
    """
    best_first = sorted(scored, key=lambda answer: -answer[1])
    for (better, high), (worse, low) in combinations(best_first, 2):
        yield "a tie" if high == low else make_pair(prompt, better, worse)
