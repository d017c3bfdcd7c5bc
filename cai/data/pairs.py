"""Read pairs of answers to be judged, with the labels that they already have, if any.

These rows are all read as the same pair; the last two have a label that names the first answer::

    {"prompt": "Hello", "first": "Hi!", "second": "No."}
    {"prompt": "Hello", "response_a": "Hi!", "response_b": "No."}
    {"instruction": "Hello", "output_1": "Hi!", "output_2": "No.", "label": 1}
    {"prompt": "Hello", "model_a": "Hi!", "model_b": "No.", "winner": "model_a"}

The answers keep their order. A row that names no order, such as ``chosen`` and ``rejected``, is
shown in an order that is drawn, so that a judge gains nothing from the place of an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pydantic import ValidationError

from cai.data.answers import is_sample
from cai.data.formats import format_of
from cai.data.preferences import read_preferences
from cai.data.prompts import prompt_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem
from cai.files import StrPath
from cai.keys import digest, uniform
from cai.records import Comparison, Preference, Sample

STEMS = ("response", "answer", "output", "completion", "generation", "candidate", "model", "text")
"""Beginnings of the names of the two columns with answers."""
ENDINGS = (("a", "b"), ("A", "B"), ("1", "2"), ("0", "1"))
"""Ends of these names, for the first and the second answer."""
NAMES = (
    ("first", "second"),
    *(
        (f"{stem}{joint}{first}", f"{stem}{joint}{second}")
        for stem, joint, (first, second) in product(STEMS, ("_", "", "-"), ENDINGS)
    ),
)
"""Names of two columns with answers."""
PROMPT_COLUMNS = ("prompt", "question", "instruction", "messages", "input")
LABEL_COLUMNS = ("label", "gold", "winner", "preference", "better_response_id", "better", "choice")
"""Columns with a label: the name of a column with an answer, or the end of its name."""
TIES = ("tie", "tied", "both", "neither", "equal", "draw")
SOURCE = "gold"
_NAMED = re.compile(rf"(?:(?:{'|'.join(STEMS)})[ _-]?)?([ab012])")
_ORDINALS = {"first": ("1", "a"), "second": ("2", "b")}


@dataclass
class PairFile:
    """What a file of pairs holds.

    Attributes:
        comparisons: The pairs.
        gold: The labels that the file has; pairs without one are not among them.
        samples: Answers by the model that wrote them, for a file of answers: they have no pairs.
        skipped: Number of rows that were left out, by reason.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    gold: list[Preference] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def read_pairs(path: StrPath, gold: str = "") -> PairFile:
    """Read pairs of answers, each once.

    Args:
        path: A table of pairs, in one of the formats of preferences or as above; records of
            ``cai judge`` or of ``cai sample``.
        gold: The column with the labels; empty: the first that has a usual name.

    Raises:
        InputError: For each row that cannot be read, or for a file without pairs.
    """
    problems: list[Problem] = []
    file = PairFile()
    known: set[str] = set()
    for place, row in collect_rows(path, problems):
        if not known and not file.samples and not problems and _is_preference(row, gold):
            return _preferences(path)
        try:
            _add(file, row, gold, known)
        except (ValueError, ValidationError) as error:
            problems.append(Problem(place, _explain(error)))
    if not problems and not file.comparisons and not file.samples:
        problems.append(Problem(str(path), "has no pairs of answers"))
    if problems:
        raise InputError(problems)
    return file


def _is_preference(row: Row, gold: str) -> bool:
    """Whether a file has rows in which only the order of preference is known."""
    return not gold and answer_columns(row) is None and bool(format_of(row))


def _preferences(path: StrPath) -> PairFile:
    """Read pairs whose better answer is known, in an order that does not tell which it is."""
    read = read_preferences(path)
    gold = [
        p.swap() if uniform("pair order", p.comparison.id) < 0.5 else p for p in read.preferences
    ]
    if not gold:
        raise InputError([Problem(str(path), "has no pairs of answers")])
    return PairFile([p.comparison for p in gold], gold, skipped=Counter(read.counts))


def _add(file: PairFile, row: Row, gold: str, known: set[str]) -> None:
    if is_sample(row):
        sample = Sample.model_validate(row)
        file.samples.setdefault(sample.provenance.model, []).append(sample)
        return
    if isinstance(row.get("comparison"), dict):
        comparison, label = Comparison.model_validate(row["comparison"]), None
    else:
        comparison, label = _comparison(row, gold)
    if comparison.id in known:
        file.skipped["duplicate"] += 1
        return
    known.add(comparison.id)
    file.comparisons.append(comparison)
    if label is not None:
        file.gold.append(
            Preference(
                id=digest([comparison.id, SOURCE, label]),
                comparison=comparison,
                p_first=label,
                source=SOURCE,
            )
        )


def answer_columns(row: Row) -> tuple[str, str] | None:
    """Return the names of the two columns of a row that hold answers; None if it has none.

    Args:
        row: The row.
    """
    return next((pair for pair in NAMES if pair[0] in row and pair[1] in row), None)


def _comparison(row: Row, gold: str) -> tuple[Comparison, float | None]:
    names = answer_columns(row)
    if names is None:
        raise ValueError(
            f"has no two answers; columns: {', '.join(row)}; name them first and second"
        )
    answers = [row[name] for name in names]
    for name, answer in zip(names, answers, strict=True):
        if not isinstance(answer, str):
            raise ValueError(f"{name} must be text, not {type(answer).__name__}")
    comparison = Comparison.of(prompt_of(_prompt_value(row), "pair"), answers[0], answers[1])
    return comparison, label_of(row, names, gold)


def _prompt_value(row: Row) -> Any:
    """The prompt of a row; an instruction and its input are one text."""
    texts = [row[name] for name in ("instruction", "input") if isinstance(row.get(name), str)]
    if len(texts) == 2:
        return "\n\n".join(text.strip() for text in texts if text.strip())
    return next((row[name] for name in PROMPT_COLUMNS if row.get(name) is not None), None)


def label_of(row: Row, names: tuple[str, str], gold: str = "") -> float | None:
    """Return the probability that the first answer of a row is the better one, as it says.

    Args:
        row: The row.
        names: The columns of its two answers.
        gold: The column with the label; empty: the first that has a usual name, or ``p_first``.

    Returns:
        1, 0, one half for a tie, or the row's ``p_first``; None if the row has no label.

    Raises:
        ValueError: If the label names neither answer.
    """
    if gold and gold not in row:
        raise ValueError(f"has no column {gold!r}; columns: {', '.join(row)}")
    column = gold or next((name for name in (*LABEL_COLUMNS, "p_first") if name in row), "")
    value = row.get(column)
    if value is None or value == "":
        return None
    if column == "p_first":
        return _probability(value)
    label = _plain(value)
    if label in TIES:
        return 0.5
    match = _NAMED.fullmatch(label)
    said = {label, match[1]} if match else {label}
    hits = [bool(said & _ends(name)) for name in names]
    if hits.count(True) != 1:
        raise ValueError(
            f"{column} must name one of the answers ({names[0]} or {names[1]}, or how these end), "
            f"or tie, not {value!r}"
        )
    return 1.0 if hits[0] else 0.0


def _probability(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError(f"p_first must be a probability, not {value!r}")
    return number


def _plain(value: Any) -> str:
    """A label as text: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    return text.removesuffix(".0")


def _ends(column: str) -> set[str]:
    """What a label may call the answer of a column: its name, or how that ends."""
    column = column.lower()
    match = _NAMED.fullmatch(column)
    return {column, *_ORDINALS.get(column, ()), *([match[1]] if match else ())}


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"is not a record: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    return str(error)
