"""Readers of pairs whose answers have ranks, or a label that names one of them."""

from __future__ import annotations

from collections.abc import Iterator

from cai.data.pair_columns import LeftOut, answer_columns, comparison_of
from cai.data.pair_labels import LABEL_COLUMNS, majority, votes_of
from cai.data.pair_parts import (
    SOURCE,
    Outcome,
    by_score,
    make_pair,
    number_of,
    text_in,
    usable_prompt,
)
from cai.data.tables import Row


def is_ranked(row: Row) -> bool:
    """Return whether a row has a prompt and several answers with ranks.

    Args:
        row: The row.
    """
    answers = row.get("answers")
    if not isinstance(answers, list) or not answers or "prompt" not in row:
        return False
    return all(isinstance(answer, dict) and "rank" in answer for answer in answers)


def read_ranked(row: Row) -> Iterator[Outcome]:
    """Read Nectar rows, of which the lowest rank is best.

    Args:
        row: The row.

    Yields:
        A pair of each two answers, or the reason why there is none.
    """
    ranked = [
        (text_in(answer, "answer"), -number_of(answer["rank"], f"answers.{number}.rank"))
        for number, answer in enumerate(row["answers"])
    ]
    yield from by_score(usable_prompt(row), ranked)


def is_compared(row: Row) -> bool:
    """Return whether a row has two answers and says which is better.

    Args:
        row: The row.
    """
    has_label = any(name in row for name in (*LABEL_COLUMNS, "p_first"))
    return has_label and answer_columns(row) is not None


def read_compared(row: Row) -> Iterator[Outcome]:
    """Read two answers, and the label of one annotator or of several.

    Args:
        row: The row.

    Yields:
        The pair, or the reason why there is none.
    """
    names = answer_columns(row)
    assert names is not None
    try:
        pair = comparison_of(row, names)
    except LeftOut as error:
        yield str(error)
        return
    prompt = pair.prompt.model_copy(update={"kind": SOURCE})
    p_first = _p_first(row, names)
    if p_first is None:
        yield "no answer is chosen"
    elif p_first == 0.5:
        yield "a tie"
    elif p_first > 0.5:
        yield make_pair(prompt, pair.first, pair.second, p_first)
    else:
        yield make_pair(prompt, pair.second, pair.first, 1 - p_first)


def _p_first(row: Row, names: tuple[str, str]) -> float | None:
    """Return the probability that the first answer is the better one; None without a label."""
    votes = votes_of(row, names)
    return majority(list(votes.values())) if votes else None
