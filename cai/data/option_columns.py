"""Multiple-choice questions with a column for each option.

The options of a row are columns whose names differ in a letter or a number alone (``a`` and ``b``,
``opa`` and ``opb``, ``ans0`` to ``ans2``), or columns that say which answers are right
(``best answer``, ``incorrect answers``, ``distractor1``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from cai.data.choice_layout import LETTERS
from cai.data.tables import Row

STEMS = ("", "option", "choice", "ans", "answer", "op", "opt", "sol", "ending")
"""Beginnings of the names of columns with an option each."""
PAIR_STEMS = ("answer",)
"""Those that two answers to be compared have too: of these there are at least three."""
_RIGHT = re.compile(r"(?:best|correct|right)[ _]answers?")
_WRONG = re.compile(r"(?:incorrect|wrong)[ _]answers?[ _]?\d*|distractor[ _]?\d+")


class Options(NamedTuple):
    """The options of a row that has a column for each.

    Attributes:
        texts: The options.
        labels: What the answer calls each of them: a letter, or a number.
    """

    texts: list[str]
    labels: list[str]


def option_columns(row: Row) -> Options | None:
    """Find the columns with options; None if there are not two.

    Args:
        row: The row.
    """
    names = {name.lower(): name for name in row}
    numbers = [str(i) for i in range(len(LETTERS))]
    for stem, joint in product(STEMS, ("", "_", " ", "-")):
        needed = 3 if stem in PAIR_STEMS else 2
        for labels in (list(LETTERS), numbers, numbers[1:]):  # from 0 if there is a 0
            columns = [f"{stem}{joint if stem else ''}{label.lower()}" for label in labels]
            found = _leading(row, [names.get(column, "") for column in columns])
            if len(found) >= needed:
                return Options(found, labels[: len(found)])
    return None


def _leading(row: Row, names: Sequence[str]) -> list[str]:
    """The values of columns up to the first one that is not there or empty."""
    texts = []
    for name in names:
        if not name or row[name] in (None, ""):
            break
        texts.append(str(row[name]))
    return texts


def right_and_wrong(row: Row) -> tuple[list[str], list[str]] | None:
    """Find columns that say which answers are right; None without both kinds.

    Of a list of right answers and the best of them, the best one is taken.

    Args:
        row: The row.
    """
    texts = {name.lower(): value for name, value in row.items() if isinstance(value, str)}
    right = [name for name in texts if _RIGHT.fullmatch(name) and texts[name].strip()]
    best = [name for name in right if name.startswith("best")]
    wrong = [name for name in texts if _WRONG.fullmatch(name)]
    wrong = [n for n in wrong if n.endswith("answers")] or wrong
    if not right or not wrong:
        return None
    return _answers(texts, best or right), _answers(texts, wrong)


def _answers(texts: dict[str, str], names: Sequence[str]) -> list[str]:
    """The answers in columns; one whose name is a plural has several, with ; between them."""
    return [
        text.strip()
        for name in names
        for text in (texts[name].split(";") if name.endswith("s") else [texts[name]])
        if text.strip()
    ]
