"""Worked examples of critique and revision that other tools keep, as the ``few_shot`` of a constitution: byte for byte.

Known shapes: conversations of six turns (llm-swarm's JSON keeps them under ``system_chat``), and transcripts with the paper's labels
(Human, Assistant, CritiqueRequest, Critique, RevisionRequest, Revision), in JSON or as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai.errors import InputError, Problem
from cai.files import StrPath, read_utf8, strict_json

ROLES = ["user", "assistant"] * 3
LABELS = ["Human", "Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"]
_LABEL = re.compile(rf"^({'|'.join(LABELS)}):", re.MULTILINE)


class FewShotExample(NamedTuple):
    """One example: what was asked and answered, how the answer was criticised and revised, and by which requests."""

    prompt: str
    answer: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


def read_few_shot_examples(path: StrPath) -> list[FewShotExample]:
    """The worked examples of a file, in its order; none where it holds none.

    Raises:
        InputError: naming each example that does not have its six parts, or has a part that a file of ours cannot keep as it is.
    """
    found, problems = [], []
    for number, (place, parts) in enumerate(_examples(Path(path)), start=1):
        if parts is None:
            problems.append(
                Problem(
                    place,
                    f"is no worked example: its turns should be {', '.join(LABELS)}, once each",
                )
            )
        elif any(not part or part != part.strip() for part in parts):
            problems.append(
                Problem(
                    place,
                    f"example {number} has an empty part, or one that begins or ends with a blank",
                )
            )
        else:
            found.append(FewShotExample(*parts))
    if problems:
        raise InputError(problems)
    return found


def _examples(path: Path) -> Iterator[tuple[str, list[str] | None]]:
    """Place and parts of each example; None for what looks like one and is none."""
    if path.suffix.lower() not in (".json", ".txt"):
        return
    text = read_utf8(path)
    if path.suffix.lower() == ".txt":
        yield from _of_transcript(str(path), text)
        return
    try:
        value = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(str(path), f"is no JSON: {error}")]) from None
    if isinstance(value, Mapping) and "system_chat" in value:
        value = value["system_chat"]
    named = (
        value.items()
        if isinstance(value, Mapping)
        else enumerate(value, start=1)
        if isinstance(value, list)
        else []
    )
    for name, entry in named:
        place = f"{path}: {name}"
        if isinstance(entry, list) and len(entry) == 1:
            entry = entry[0]
        if isinstance(entry, str) and _LABEL.search(entry):
            yield from _of_transcript(place, entry)
        elif (
            isinstance(entry, list)
            and entry
            and all(isinstance(turn, Mapping) and "role" in turn for turn in entry)
        ):
            yield place, _of_turns(entry)


def _of_turns(turns: list[Mapping[str, Any]]) -> list[str] | None:
    contents = [turn.get("content") for turn in turns]
    if [turn["role"] for turn in turns] != ROLES or not all(
        isinstance(content, str) for content in contents
    ):
        return None
    return [str(content) for content in contents]


def _of_transcript(place: str, text: str) -> Iterator[tuple[str, list[str] | None]]:
    """The examples of a transcript, one after the other; the blanks round a part belong to the transcript."""
    pieces = _LABEL.split(text)[1:]
    labels, parts = pieces[::2], [part.strip() for part in pieces[1::2]]
    for at in range(0, len(labels), len(LABELS)):
        yield (
            place,
            parts[at : at + len(LABELS)] if labels[at : at + len(LABELS)] == LABELS else None,
        )
