"""Read prompts: ``{"prompt": text or messages}``, ``{"messages": [...]}`` or a table's column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cai.arguments import check_count
from cai.data.tables import Row, collect_rows, is_given
from cai.data.transcripts import parse_transcript
from cai.errors import InputError, Problem, did_you_mean, summarized, type_in_words
from cai.files import StrPath
from cai.records import Message, Prompt

PROMPT_COLUMNS = (
    "prompt",
    "question",
    "instruction",
    "messages",
    "query",
    "test_case",
    "input",
    "context",
    "history",
    "conversations",
    "conversation",
    "chat",
    "context_messages",
    "trajectory",
    "inputs",
    "problem",
)
"""Names of a column with a prompt; the first that a row has is read."""
CONTEXT_COLUMNS = ("context", "passage", "article", "contextstring")
"""Names of a column with what is to be read before a question."""
SYSTEM_COLUMNS = ("system", "system_prompt")
"""Names of a column with a system message."""
_TURNS = TypeAdapter(tuple[Message, ...])
_UNANSWERED = re.compile(r"\s*Human:.*\n\s*Assistant:\s*", re.DOTALL)
"""A transcript up to where the answer begins."""
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
}
"""What other programs call the roles."""


def read_prompts(path: StrPath, kind: str, limit: int = 0) -> list[Prompt]:
    """Read the prompts of a file, each once.

    A system message, a context or the input of an instruction in a column of its own is part of the
    prompt.

    Args:
        path: A table: JSON, JSON Lines, CSV, TSV, Parquet, or a saved dataset. It may end in
            ``#column`` to name the column that holds the prompts.
        kind: Name of the set, which each prompt carries (``red_team``, ``benign`` ...).
        limit: Number of prompts to read; 0 reads all of them.

    Raises:
        InputError: For each row without a prompt, or for a file without any.
        ArgumentError: If ``limit`` is negative.
    """
    check_count("limit", limit, 0)
    path, column = _column(Path(path))
    prompts: dict[str, Prompt] = {}
    problems: list[Problem] = []
    without_column: list[Problem] = []
    for place, row in collect_rows(path, problems):
        names = _names(column, row)
        name = next((name for name in names if name in row), "")
        if not name:
            without_column.append(Problem(place, _no_column(names, row)))
            continue
        try:
            prompt = prompt_in(row, kind, name)
        except ValueError as error:
            problems.append(Problem(place, str(error)))
            continue
        prompts.setdefault(prompt.id, prompt)
    if len(without_column) > 1 and not prompts and not problems:  # it is the file that has none
        without_column = [Problem(str(path), without_column[0].message)]
    problems += without_column
    if not prompts and not problems:
        problems.append(Problem(str(path), "has no prompts"))
    if problems:
        raise InputError(summarized(problems))
    return list(prompts.values())[: limit or None]


def _names(column: str, row: Row) -> list[str]:
    """Name the columns to look in; a table's columns are in lower case."""
    if not column:
        return ["prompt", "messages"]
    return [column if column in row or column.lower() not in row else column.lower()]


def _no_column(names: Sequence[str], row: Row) -> str:
    known = ", ".join(row)
    wanted = " or ".join(f'"{name}"' for name in names)
    hint = did_you_mean(names[0], row)
    return f"has no column {wanted}{hint}; columns: {known}; name one as file#column"


def _column(path: Path) -> tuple[Path, str]:
    name, mark, column = path.name.rpartition("#")
    return (path.with_name(name), column) if mark and name and not path.exists() else (path, "")


def prompt_of(value: Any, kind: str) -> Prompt:
    """Make a prompt of a text, or of messages that end with a user turn.

    A text that is an HH-RLHF transcript up to where the answer begins has the turns of it.

    Raises:
        ValueError: If it is neither, with what is wrong.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the prompt is empty")
        return Prompt.of(_turns_before_answer(value) or value, kind)
    if not isinstance(value, list):
        raise ValueError(
            f"the prompt must be text or a list of messages, not {type_in_words(value)}"
        )
    turns = messages_of(value)
    if not turns or turns[-1].role != "user":
        raise ValueError("the conversation does not end with a user turn")
    if not turns[-1].content.strip():
        raise ValueError("the last user turn is empty")
    return Prompt.of(turns, kind)


def _turns_before_answer(text: str) -> tuple[Message, ...]:
    """The turns of a transcript that ends where the answer begins; none if it is no transcript."""
    if not _UNANSWERED.fullmatch(text):
        return ()
    parsed = parse_transcript(text.replace("\r\n", "\n").rstrip() + " -")
    return () if isinstance(parsed, str) else parsed[0]


def prompt_column(row: Row) -> str:
    """Return the name of the column with the prompt of a row; empty if it has none.

    Args:
        row: The row.
    """
    return next((name for name in PROMPT_COLUMNS if is_given(row.get(name))), "")


def prompt_in(row: Row, kind: str, column: str = "") -> Prompt:
    """Make the prompt of a row, of all columns that say what is asked.

    An instruction and its input are one text, a text of a context comes before a question, and a
    system message in a column of its own before the conversation.

    Args:
        row: The row.
        kind: Name of the set, which the prompt carries.
        column: The column with the prompt; empty: the first that has a usual name.

    Raises:
        ValueError: If the row has no prompt, or one that cannot be used.
    """
    name = column or prompt_column(row)
    if not name:
        raise ValueError(f"has no prompt; columns: {', '.join(row)}; name it prompt")
    value = row[name]
    if name == "instruction":
        value = _with_input(value, row.get("input"))
    value = value if name in CONTEXT_COLUMNS else with_context(row, value)
    return with_system(row, prompt_of(value, kind))


def with_system(row: Row, prompt: Prompt) -> Prompt:
    """Put a system message that has a column of its own before a conversation without one.

    Args:
        row: The row.
        prompt: Its prompt.
    """
    system = next((row[name] for name in SYSTEM_COLUMNS if _is_text(row.get(name))), "")
    if not system or prompt.messages[0].role == "system":
        return prompt
    turns = (Message(role="system", content=system), *prompt.messages)
    return Prompt.of(turns, prompt.kind)


def with_context(row: Row, question: Any) -> Any:
    """Put what is to be read before a question in front of it, unless it has it already.

    Args:
        row: The row.
        question: Its question; what is not text stays as it is.
    """
    text = next((row[name] for name in CONTEXT_COLUMNS if _is_text(row.get(name))), "").strip()
    if not text or not isinstance(question, str) or text in question:
        return question
    return f"{text}\n\n{question}"


def _with_input(instruction: Any, given: Any) -> Any:
    if not isinstance(instruction, str) or not _is_text(given):
        return instruction
    return f"{instruction.strip()}\n\n{given.strip()}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def messages_of(value: Any) -> tuple[Message, ...]:
    """Read messages from ``[{"role": ..., "content": ...}]``, or ``[{"from": ..., "value": ...}]``.

    Content that is given in parts is joined if all parts are text.

    Raises:
        ValueError: If a message is malformed, with its place and what is wrong.
    """
    if isinstance(value, list):
        value = [_plain_message(turn) for turn in value]
    try:
        return _TURNS.validate_python(value)
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"message {'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None


def _plain_message(turn: Any) -> Any:
    """Keep role and text; names, ids and weights are not part of the conversation."""
    if not isinstance(turn, dict):
        return turn
    if "from" in turn and "role" not in turn:  # as ShareGPT has them
        turn = {"role": turn["from"], "content": turn.get("value")}
    message = {key: value for key, value in turn.items() if key in ("role", "content")}
    role = message.get("role")
    if isinstance(role, str):
        message["role"] = _ROLES.get(role.lower(), role.lower())
    parts = message.get("content")
    if isinstance(parts, list) and parts and all(map(_is_text_part, parts)):
        message["content"] = "".join(part["text"] for part in parts)
    return message


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def by_kind(prompts: Sequence[Prompt], kind: str) -> list[Prompt]:
    """Select the prompts of one set."""
    return [prompt for prompt in prompts if prompt.kind == kind]
