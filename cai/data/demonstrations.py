"""Read answers to imitate, which the supervised stage trains on when there is no constitution."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cai.cleaning import clean
from cai.data.formats import FORMATS
from cai.data.pair_parts import Pair
from cai.data.prompts import PROMPT_COLUMNS, messages_of, prompt_in
from cai.data.published import in_known_columns
from cai.data.row_formats import format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, summarized, type_in_words
from cai.files import StrPath
from cai.records import Message, Prompt

ANSWER_COLUMNS = ("completion", "response", "answer", "output", "solution", "targets")
"""Names of a column with the answer to a prompt."""
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
"""Names of a column with a conversation that ends with an answer."""
KNOWN = (
    "prompt (or question, or instruction and input), completion (or response, answer or output); "
    "messages (or conversations) that end with an answer; or preferences, whose better answer is "
    "taken"
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
    conversation = next((name for name in CONVERSATION_COLUMNS if row.get(name)), "")
    answer = next((name for name in ANSWER_COLUMNS if name in row), "")
    turns = messages_of(row[conversation]) if conversation else ()
    if turns and (turns[-1].role == "assistant" or not answer):
        return _turns(row, turns, row[conversation])
    if not answer or not any(name in row for name in PROMPT_COLUMNS):
        columns = ", ".join(row)
        raise ValueError(f"is not a demonstration; columns: {columns}; known formats: {KNOWN}")
    value = row[answer]
    text = messages_of(value)[-1].content if isinstance(value, list) and value else value
    if not isinstance(text, str):
        raise ValueError(f"the answer must be text, not {type_in_words(text)}")
    return [_demonstration(row, text)]


def _turns(row: Row, turns: Sequence[Message], given: Sequence[Row]) -> list[Demonstration | str]:
    """Read every assistant turn of a conversation; those of weight 0 are left out."""
    if turns[-1].role != "assistant":
        return ["does not end with an assistant turn"]
    return [
        _demonstration({**row, "prompt": given[:i]}, turn.content)
        if given[i].get("weight") != 0
        else "a turn has weight 0"
        for i, turn in enumerate(turns)
        if turn.role == "assistant" and i
    ]


def _demonstration(row: Row, answer: str) -> Demonstration | str:
    if not answer.strip():
        return "an answer is empty"
    try:
        return prompt_in(row, "human"), clean(answer).strip()
    except ValueError:
        return "no usable prompt"
