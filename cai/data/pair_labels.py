"""What the labels of a pair say: which of its two answers is better, by one annotator or several.

These labels all say that the first answer, of ``output_1`` or ``response_a``, is the better one::

    1    "1"    "output_1"    "A"    "model_a"    "first"    "A>B"    "[[A>>B]]"

A number may mean something else where a data set says so, see :data:`NUMBERINGS`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cai.data.pair_columns import NAMED, model_columns
from cai.data.tables import Row, is_given

LABEL_COLUMNS = ("label", "gold", "winner", "preference", "better_response_id", "better", "choice")
"""Columns with a label: the name of a column with an answer, or the end of its name."""
ANNOTATOR_COLUMNS = ("annotator", "annotator_id", "annotator_index", "rater", "worker_id", "judge")
"""Columns that name who gave the label of a row; another row may have the label of another."""
TIES = re.compile(r"(tie|tied|both|neither|equal|same|draw)(\b|_).*")
_ANNOTATORS = re.compile(r"(?:annotator|annotation|rater|worker|expert|label|vote)[ _-]?\d+")
"""Columns with the label of one annotator each."""
_RELATION = re.compile(r"\W*([ab12])\s*(>+|<+|=+)\s*([ab12])\W*")
_ORDINALS = {"first": ("1", "a"), "second": ("2", "b")}

Codes = Mapping[str, float]
"""What some labels mean: the probability that the first answer is the better one."""


class Numbering(NamedTuple):
    """The numbers that a data set has as labels.

    Attributes:
        columns: Columns that its rows have.
        codes: What each number means.
    """

    columns: tuple[str, ...]
    codes: Codes


NUMBERINGS = (
    Numbering(("scenario", "response 1", "response 2"), {"0": 1.0, "1": 0.0, "2": 0.5}),  # Auto-J
    Numbering(("annotator1", "annotator2"), {"0": 0.5}),  # PandaLM
    Numbering(("output_1", "output_2", "preference"), {"0": 0.5}),  # AlpacaEval, early files
)


def votes_of(
    row: Row, names: tuple[str, str], gold: str = "", codes: Codes | None = None
) -> dict[str, float]:
    """Return what each annotator says about a row; an annotator without a name is ``""``.

    Args:
        row: The row.
        names: The columns of its two answers.
        gold: The column with the label; empty: the first that has a usual name, or those of
            several annotators.
        codes: What labels mean, before anything that is known about them.

    Returns:
        The probability that the first answer is the better one, as each annotator says. It is
        empty if the row has no label.

    Raises:
        ValueError: If a label names neither answer.
    """
    if gold and gold not in row:
        raise ValueError(f"has no column {gold!r}; columns: {', '.join(row)}")
    known = (n.codes for n in NUMBERINGS if all(column in row for column in n.columns))
    codes = codes or next(known, {})
    column = gold or next((name for name in ("p_first", *LABEL_COLUMNS) if name in row), "")
    several = [] if gold else [name for name in row if _ANNOTATORS.fullmatch(name.lower())]
    if len(several) > 1:
        return {c: label_of(row, names, c, codes) for c in several if is_given(row[c])}
    value = row.get(column)
    if isinstance(value, list):
        rows = [{**row, column: vote} for vote in value]
        labeled = enumerate((r for r in rows if is_given(r[column])), start=1)
        return {str(i): label_of(r, names, column, codes) for i, r in labeled}
    if not is_given(value):
        return {}
    named = next((str(row[name]) for name in ANNOTATOR_COLUMNS if is_given(row.get(name))), "")
    return {named: label_of(row, names, column, codes)}


def label_of(row: Row, names: tuple[str, str], column: str, codes: Codes) -> float:
    """Return the probability that the first answer is the better one, as a column says.

    Args:
        row: The row.
        names: The columns of its two answers.
        column: The column with the label.
        codes: What labels mean, before anything else that is known about them.

    Returns:
        1, 0, one half for a tie, or a probability that the column states.

    Raises:
        ValueError: If the label names neither answer.
    """
    value = row[column]
    if column == "p_first":
        return _probability(value)
    label = _plain(value)
    if label in codes:
        return codes[label]
    if TIES.fullmatch(label):
        return 0.5
    if column == "preference" and (share := _between(value)) is not None:
        return share
    if relation := _RELATION.fullmatch(label):
        return _by_relation(*relation.groups())
    hits = [bool(label_names & {label, *_stem(label)}) for label_names in _names_of(row, names)]
    if hits.count(True) != 1:
        raise ValueError(
            f"{column} must name one of the answers ({names[0]} or {names[1]}, or how these end), "
            f"or tie, not {value!r}"
        )
    return 1.0 if hits[0] else 0.0


def majority(votes: Sequence[float]) -> float:
    """Return what most annotators say; one half if no verdict has more votes than any other.

    Args:
        votes: The probability of the first answer by each annotator; one vote stays as it is.
    """
    if len(votes) == 1:
        return votes[0]
    counts = Counter(0.5 if vote == 0.5 else float(vote > 0.5) for vote in votes)
    (first, most), *others = counts.most_common()
    return 0.5 if others and others[0][1] == most else first


def _names_of(row: Row, names: tuple[str, str]) -> list[set[str]]:
    """What a label may call each answer: its column, how that ends, or the model that wrote it."""
    models = model_columns(row, names)
    found = []
    for i, name in enumerate(names):
        column = name.lower()
        called = {column, *_ORDINALS.get(column, ()), *_stem(column)}
        if models is not None and row[models[0]] != row[models[1]]:
            called |= {models[i].lower(), str(row[models[i]]).strip().lower()}
        found.append(called)
    return found


def _stem(label: str) -> list[str]:
    match = NAMED.fullmatch(label)
    return [match[1]] if match else []


def _by_relation(left: str, sign: str, right: str) -> float:
    """Read a label such as A>B or B=A."""
    is_first = [side in "a1" for side in (left, right)]
    if sign[0] == "=" or is_first[0] == is_first[1]:
        return 0.5
    return float(is_first[0] == (sign[0] == ">"))


def _between(value: Any) -> float | None:
    """Read a preference between 1, for the first answer, and 2, as AlpacaEval has them."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return 2 - number if 1 < number < 2 else None


def _probability(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"p_first must be a probability, not {value!r}")
    return number


def _plain(value: Any) -> str:
    """A label as text: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    return text.removesuffix(".0")
