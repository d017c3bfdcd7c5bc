"""Prompts from files: ``{"prompt": text or messages}`` or ``{"messages": [...]}``, or any column of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cai.arguments import check_count
from cai.data.tables import collect_rows
from cai.errors import InputError, Problem, did_you_mean
from cai.files import StrPath
from cai.records import Message, Prompt

_TURNS = TypeAdapter(tuple[Message, ...])


def read_prompts(path: StrPath, kind: str, limit: int = 0) -> list[Prompt]:
    """The prompts of a file, each once; ``path`` may end in ``#column`` to name where in a row they stand.

    Raises:
        InputError: naming each row that holds no prompt, or the file if it holds none at all.
        ArgumentError: if ``limit`` is below 0.
    """
    check_count("limit", limit, 0)
    path, column = _column(Path(path))
    prompts: dict[str, Prompt] = {}
    problems: list[Problem] = []
    for place, row in collect_rows(path, problems):
        names = [column] if column else ["prompt", "messages"]
        name = next((name for name in names if name in row), "")
        try:
            prompt = prompt_of(row.get(name), kind)
        except ValueError as error:
            hint = (
                ""
                if name
                else f"{did_you_mean(names[0], row)}; columns: {', '.join(row)}; name one as file#column"
            )
            problems.append(Problem(place, f"{error}{hint}"))
            continue
        prompts.setdefault(prompt.id, prompt)
    if not prompts and not problems:
        problems.append(Problem(str(path), "holds no prompt"))
    if problems:
        raise InputError(problems)
    return list(prompts.values())[: limit or None]


def _column(path: Path) -> tuple[Path, str]:
    name, mark, column = path.name.rpartition("#")
    return (path.with_name(name), column) if mark and name and not path.exists() else (path, "")


def prompt_of(value: Any, kind: str) -> Prompt:
    """A prompt from a text or from messages that end with a user turn.

    Raises:
        ValueError: with what is wrong.
    """
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the prompt is empty")
        return Prompt.of(value, kind)
    if not isinstance(value, list):
        raise ValueError(
            f'has no text or messages under "prompt" or "messages" (found {type(value).__name__})'
        )
    turns = messages_of(value)
    if not turns or turns[-1].role != "user":
        raise ValueError("the conversation does not end with a user turn")
    if not turns[-1].content.strip():
        raise ValueError("the last user turn is empty")
    return Prompt.of(turns, kind)


def messages_of(value: Any) -> tuple[Message, ...]:
    """Messages from ``[{"role": ..., "content": ...}]``; a content in parts is joined if all of them are text.

    Raises:
        ValueError: naming the message and what is wrong with it.
    """
    if isinstance(value, list):
        value = [_joined(turn) for turn in value]
    try:
        return _TURNS.validate_python(value)
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"message {'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None


def _joined(turn: Any) -> Any:
    parts = turn.get("content") if isinstance(turn, dict) else None
    if (
        isinstance(parts, list)
        and parts
        and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in parts)
    ):
        turn = turn | {"content": "".join(p["text"] for p in parts)}
    # what else a message holds (names, ids, weights) is not part of the conversation
    return (
        {k: v for k, v in turn.items() if k in ("role", "content")}
        if isinstance(turn, dict)
        else turn
    )


def by_kind(prompts: Sequence[Prompt], kind: str) -> list[Prompt]:
    """The prompts of one set."""
    return [prompt for prompt in prompts if prompt.kind == kind]
