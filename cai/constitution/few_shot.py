"""Read few-shot examples of critique and revision from the files of other tools, byte for byte.

Two shapes are known: conversations of six turns (llm-swarm's JSON has them under ``system_chat``),
and transcripts with the paper's labels (Human, Assistant, CritiqueRequest, Critique,
RevisionRequest, Revision), in JSON or as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import InputError, Problem
from cai.files import StrPath, read_utf8, strict_json

ROLES = ["user", "assistant"] * 3
"""The roles of the six turns of an example."""
LABELS = ["Human", "Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"]
"""The labels of the six turns of an example in a transcript."""
_LABEL = re.compile(rf"^({'|'.join(LABELS)}):", re.MULTILINE)


class FewShotExample(NamedTuple):
    """An example of critique and revision.

    Attributes:
        prompt: What the user says.
        answer: The answer to improve.
        critique_request: Asks for the critique.
        critique: What is wrong with the answer.
        revision_request: Asks for the revision.
        revision: The improved answer.
    """

    prompt: str
    answer: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


class _Entry(NamedTuple):
    """An example as it is in the file: its place, and its six texts; None if it has not these."""

    place: str
    texts: list[str] | None


def read_few_shot_examples(path: StrPath) -> list[FewShotExample]:
    """Read the few-shot examples of a file, in its order.

    Args:
        path: A ``.json`` or ``.txt`` file. A file of another kind, or with other content, has no
            examples.

    Raises:
        InputError: for each example that does not have its six texts, or has one that a
            constitution file could not keep as it is.
    """
    examples = []
    problems = []
    for number, entry in enumerate(_entries(Path(path)), start=1):
        if entry.texts is None:
            text = f"invalid few-shot example; its turns must be {', '.join(LABELS)}, in this order"
            problems.append(Problem(entry.place, text))
        elif any(not text or text != text.strip() for text in entry.texts):
            text = f"example {number} has a text that is empty, or begins or ends with a blank"
            problems.append(Problem(entry.place, text))
        else:
            examples.append(FewShotExample(*entry.texts))
    if problems:
        raise InputError(problems)
    return examples


def _entries(path: Path) -> Iterator[_Entry]:
    """Find everything in a file that looks like an example."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        yield from _from_transcript(str(path), read_utf8(path))
    elif suffix == ".json":
        for place, value in _json_values(path):
            yield from _from_value(place, value)


def _json_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Return the values of a JSON file, each with its place."""
    try:
        content = strict_json(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(str(path), f"invalid JSON: {error}")]) from None
    if isinstance(content, Mapping) and "system_chat" in content:
        content = content["system_chat"]
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield f"{path}: {name}", value
    elif isinstance(content, list):
        for number, value in enumerate(content, start=1):
            yield f"{path}: {number}", value


def _from_value(place: str, value: Any) -> Iterator[_Entry]:
    """Return the examples in one value; none for a value of another shape."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        if _LABEL.search(value):
            yield from _from_transcript(place, value)
    elif isinstance(value, list) and value and all(map(_is_turn, value)):
        yield _Entry(place, _from_turns(value))


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value


def _from_turns(turns: list[Mapping[str, Any]]) -> list[str] | None:
    """Return the texts of six turns; None if the roles are others or a text is missing."""
    texts = [turn.get("content") for turn in turns]
    if [turn["role"] for turn in turns] != ROLES:
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    return [str(text) for text in texts]


def _from_transcript(place: str, transcript: str) -> Iterator[_Entry]:
    """Split a transcript into its examples; blanks around a text belong to the transcript."""
    pieces = _LABEL.split(transcript)[1:]
    labels = pieces[::2]
    texts = [text.strip() for text in pieces[1::2]]
    for begin in range(0, len(labels), len(LABELS)):
        end = begin + len(LABELS)
        is_complete = labels[begin:end] == LABELS
        yield _Entry(place, texts[begin:end] if is_complete else None)
