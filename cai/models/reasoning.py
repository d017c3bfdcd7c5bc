"""Tell the reasoning of a model from its answer, by the marks in ``reasoning_marks.yaml``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Mark(NamedTuple):
    """What a model writes before and after a part of its text.

    Attributes:
        open: What stands before it.
        close: What stands after it.
        in_template: Whether the mark stands in the chat templates of the models that write it.
        both: Whether it counts only if both are there.
    """

    open: str
    close: str
    in_template: bool = False
    both: bool = False


class Split(NamedTuple):
    """A text in its two parts.

    Attributes:
        reasoning: What the model wrote before its answer; empty if it did not reason.
        answer: Its answer; empty if the reasoning never ended.
    """

    reasoning: str
    answer: str


@cache
def _table() -> dict[str, Any]:
    path = Path(__file__).with_name("reasoning_marks.yaml")
    table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table


@cache
def reasoning_marks() -> tuple[Mark, ...]:
    """Return the marks around reasoning."""
    return tuple(Mark(**row) for row in _table()["marks"])


@cache
def template_marks() -> tuple[tuple[str, str], ...]:
    """Return the pairs of marks that stand in chat templates."""
    return tuple((mark.open, mark.close) for mark in reasoning_marks() if mark.in_template)


def split_reasoning(text: str, *, opened_by_prompt: bool = True) -> Split:
    """Split what a model wrote into its reasoning and its answer.

    A mark counts at the beginning of the text. Many chat templates open the reasoning in the
    prompt, so a text may also have the closing mark alone. A text about such marks, which opens one
    in the middle, stays as it is.

    Args:
        text: What the model wrote.
        opened_by_prompt: Whether the prompt may have opened the reasoning.
    """
    rest, thoughts = _without_leftovers(text), list[str]()
    while mark := _opening_of(rest):
        body = rest.lstrip()[len(mark.open) :]
        end = _end_of(body, mark)
        if end is None and mark.both:
            break
        if end is None:
            return Split(_joined([*thoughts, body]), "")
        thoughts.append(body[: end.start()])
        rest = body[end.end() :]
    closing = _closing_alone(rest) if opened_by_prompt and not thoughts else None
    if closing:
        thoughts.append(rest[: closing.start()])
        rest = rest[closing.end() :]
    return Split(_joined(thoughts), _without_answer_marks(rest)) if thoughts else Split("", text)


def _opening_of(text: str) -> Mark | None:
    """Return the mark that a text begins with."""
    begins = text.lstrip().casefold()
    return next((m for m in reasoning_marks() if begins.startswith(m.open.casefold())), None)


def _end_of(body: str, mark: Mark) -> re.Match[str] | None:
    """Find the closing mark of a thought, which may itself contain such thoughts."""
    depth = 1
    for match in _either(mark).finditer(body):
        depth += 1 if match["open"] else -1
        if not depth:
            return match
    return next((m for m in _either(mark).finditer(body) if m["close"]), None)


def _closing_alone(text: str) -> re.Match[str] | None:
    """Find a closing mark that no opening mark precedes."""
    for mark in reasoning_marks():
        match = None if mark.both else _either(mark).search(text)
        if match and match["close"]:
            return match
    return None


@cache
def _either(mark: Mark) -> re.Pattern[str]:
    opened, closed = re.escape(mark.open), re.escape(mark.close)
    return re.compile(f"(?P<open>{opened})|(?P<close>{closed})", re.IGNORECASE)


def _without_leftovers(text: str) -> str:
    for mark in _table()["leftovers"]:
        text = text.strip().removeprefix(mark).removesuffix(mark) if mark in text else text
    return text


def _without_answer_marks(answer: str) -> str:
    for row in _table()["answers"]:
        inside = answer.strip()
        if inside.casefold().startswith(row["open"].casefold()):
            inside = inside[len(row["open"]) :]
            end = inside.casefold().rfind(row["close"].casefold())
            return inside if end < 0 else inside[:end]
    return _without_leftovers(answer)


def _joined(thoughts: list[str]) -> str:
    parts = [_without_leftovers(_without_leftovers(thought)).strip() for thought in thoughts]
    return "\n\n".join(part for part in parts if part)
