"""Which columns of a row hold two answers, their prompt, who wrote them, and what kind they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from cai.data.prompts import messages_of, prompt_in, prompt_of, with_system
from cai.data.tables import Row, is_given
from cai.errors import type_in_words
from cai.records import Comparison, Message

STEMS = ("response", "answer", "output", "completion", "generation", "candidate", "model", "text")
"""Beginnings of the names of the two columns with answers."""
MODEL_STEMS = ("model", "generator", "system", "policy")
"""Beginnings of the names of the two columns with the models that wrote the answers."""
ENDINGS = (("a", "b"), ("A", "B"), ("1", "2"), ("0", "1"))
"""Ends of these names, for the first and the second answer."""


def _columns(stems: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for stem, joint, (first, second) in product(stems, ("_", "", "-", " "), ENDINGS):
        yield f"{stem}{joint}{first}", f"{stem}{joint}{second}"


NAMES = (("first", "second"), ("conversation_a", "conversation_b"), *_columns(STEMS))
"""Names of two columns with answers."""
MODEL_NAMES = tuple(_columns(MODEL_STEMS))
"""Names of two columns with the models that wrote the answers."""
NAMED = re.compile(rf"(?:(?:conversation|{'|'.join(STEMS)})[ _-]?)?([ab012])")
"""A column with an answer, or how its name ends."""
SUBSET_COLUMNS = ("subset", "category", "scenario", "domain", "source", "dataset", "kind")
"""Columns that say what kind of pair a row is."""
BOTH_MODELS = "cmp_key"
"""A column with the names of both models, joined by ``_``."""


def answer_columns(row: Row) -> tuple[str, str] | None:
    """Return the names of the two columns of a row that hold answers; None if it has none.

    Args:
        row: The row.
    """
    return next((pair for pair in NAMES if pair[0] in row and pair[1] in row), None)


def model_columns(row: Row, names: tuple[str, str]) -> tuple[str, str] | None:
    """Return the names of the two columns with the models that wrote the answers; None without.

    Args:
        row: The row.
        names: The columns with the answers.
    """
    pairs = (pair for pair in MODEL_NAMES if pair[0] in row and pair[1] in row and pair != names)
    return next(pairs, None)


def comparison_of(row: Row, names: tuple[str, str]) -> Comparison:
    """Make a comparison of a row.

    Args:
        row: The row.
        names: The columns with the answers.

    Raises:
        LeftOut: If the row is no pair, and no mistake either.
        ValueError: If the prompt or an answer cannot be used.
    """
    if isinstance(row[names[0]], list):
        return _of_conversations(row, names)
    answers = [row[name] for name in names]
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, bool):  # a text "True" that went through YAML
            raise LeftOut("an answer is true or false and not text")
        if not isinstance(answer, str):
            raise ValueError(f"{name} must be text, not {type_in_words(answer)}")
    prompt = prompt_in(row, "pair")
    return Comparison.of(prompt, answers[0], answers[1], _origins(row, names))


def subsets_of(row: Row, column: str = "") -> dict[str, str]:
    """Return what kind of pair a row is, by the columns that say so.

    Args:
        row: The row.
        column: One more column to look in.
    """
    found = ((name, row.get(name)) for name in dict.fromkeys((*SUBSET_COLUMNS, column)))
    return {name: str(v) for name, v in found if isinstance(v, str | int) and is_given(v)}


def _of_conversations(row: Row, names: tuple[str, str]) -> Comparison:
    """Read two conversations up to the turn that was judged, as chatbot arenas have them."""
    turns = row.get("turn")
    kept = 2 * turns if isinstance(turns, int) and turns > 0 else None
    first, second = (messages_of(row[name][:kept]) for name in names)
    if first[:-1] != second[:-1]:
        raise LeftOut("the two conversations begin differently")
    if not first or first[-1].role != "assistant" or not second or second[-1].role != "assistant":
        raise ValueError(f"{names[0]} and {names[1]} must end with an assistant turn")
    prompt = with_system(row, prompt_of([_as_row(turn) for turn in first[:-1]], "pair"))
    return Comparison.of(prompt, first[-1].content, second[-1].content, _origins(row, names))


class LeftOut(Exception):
    """Why a row of a published file is left out and counted."""


def _as_row(turn: Message) -> dict[str, str]:
    return {"role": turn.role, "content": turn.content}


def _origins(row: Row, names: tuple[str, str]) -> tuple[str, str]:
    columns = model_columns(row, names)
    if columns is not None:
        first, second = (str(row[name]) if is_given(row[name]) else "" for name in columns)
        return first, second
    both = str(row.get(BOTH_MODELS) or "").split("_")
    return (both[0], both[1]) if len(both) == 2 else ("", "")
