"""Read answers to imitate, which the supervised stage trains on when there is no constitution."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cai.cleaning import clean
from cai.data.formats import FORMATS
from cai.data.pair_parts import Pair
from cai.data.prompts import messages_of, prompt_of
from cai.data.published import in_known_columns
from cai.data.row_formats import format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, summarized, type_in_words
from cai.files import StrPath
from cai.records import Prompt

ANSWER_COLUMNS = ("completion", "response", "answer")
"""Columns that hold the answer to a column ``prompt``."""
KNOWN = (
    "prompt, completion (or response, or answer); messages (or conversations) that end with an "
    "answer; instruction, input, output; or preferences, whose better answer is taken"
)

Demonstration = tuple[Prompt, str]
"""A prompt and the answer to imitate."""


@dataclass
class Demonstrations:
    """What a file of demonstrations holds.

    Attributes:
        rows: Prompts with the answer to imitate.
        skipped: Places of rows that were left out, by reason.
    """

    rows: list[Demonstration] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> dict[str, int]:
        """Count the rows that were left out, by reason."""
        return {reason: len(places) for reason, places in self.skipped.items()}


def read_demonstrations(path: StrPath) -> Demonstrations:
    """Read the demonstrations of a file, each once.

    Of a row of ``messages`` every assistant turn is one, with the turns before it as its prompt. Of
    other rows only the answer is one: earlier turns of a prompt are not imitated.

    Args:
        path: A table: JSON, JSON Lines, CSV, TSV, Parquet, or a saved dataset.

    Raises:
        InputError: For each row that has no known format or in which something is not text.
    """
    demonstrations = Demonstrations()
    problems: list[Problem] = []
    known: set[tuple[str, str]] = set()
    for place, row in collect_rows(path, problems):
        try:
            items = _read(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, str(error)))
            continue
        for reason in dict.fromkeys(item for item in items if isinstance(item, str)):
            demonstrations.skipped[reason].append(place)
        read = [item for item in items if not isinstance(item, str)]
        new = [item for item in read if (item[0].id, item[1]) not in known]
        if read and not new:  # conversations may well begin alike
            demonstrations.skipped["duplicate"].append(place)
        known |= {(prompt.id, answer) for prompt, answer in new}
        demonstrations.rows += new
    if problems:
        raise InputError(summarized(problems))
    return demonstrations


def _read(row: Row) -> list[Demonstration | str]:
    """Read a row's prompts and answers; a text says why there is none."""
    row = in_known_columns(row)
    preference_format = format_of(row, FORMATS)
    if preference_format:
        best = next(iter(FORMATS[preference_format].read(row)), "no answer")
        return [(best.prompt, best.better) if isinstance(best, Pair) else best]
    conversation = next((name for name in ("messages", "conversations") if name in row), "")
    if conversation:
        turns = messages_of(row[conversation])
        if not turns or turns[-1].role != "assistant":
            return ["does not end with an assistant turn"]
        return [
            _demonstration([m.model_dump() for m in turns[:i]], turn.content)
            for i, turn in enumerate(turns)
            if turn.role == "assistant" and i
        ]
    column = next((name for name in ANSWER_COLUMNS if name in row), "")
    if column and "prompt" in row:
        prompt, value = row["prompt"], row[column]
        answer = messages_of(value)[-1].content if isinstance(value, list) and value else value
    elif "output" in row and "instruction" in row:
        texts = (row["instruction"], row.get("input") or "")
        prompt = "\n\n".join(text.strip() for text in texts if text.strip())
        answer = row["output"]
    else:
        columns = ", ".join(row)
        raise ValueError(f"is not a demonstration; columns: {columns}; known formats: {KNOWN}")
    if not isinstance(answer, str):
        raise ValueError(f"the answer must be text, not {type_in_words(answer)}")
    return [_demonstration(prompt, answer)]


def _demonstration(prompt: object, answer: str) -> Demonstration | str:
    if not answer.strip():
        return "an answer is empty"
    try:
        return prompt_of(prompt, "human"), clean(answer).strip()
    except ValueError:
        return "no usable prompt"
