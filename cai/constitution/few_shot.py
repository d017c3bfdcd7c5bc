"""Read few-shot examples of critique and revision from the files of other tools, byte for byte.

Two shapes are known: conversations of six turns (llm-swarm's JSON has them under ``system_chat``),
and transcripts with the paper's labels (Human, Assistant, CritiqueRequest, Critique,
RevisionRequest, Revision), in JSON or as plain text. Both may have more turns before these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cai.constitution.paper import unframed
from cai.data.tables import TABLES
from cai.data.values import read_values, values_of
from cai.errors import InputError, Problem
from cai.files import StrPath, read_utf8
from cai.records import Role

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
        earlier: Role and text of each turn before ``prompt``.
        after: What follows it: in the paper's file, the label of the next turn.
    """

    prompt: str
    answer: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str
    earlier: tuple[tuple[Role, str], ...] = ()
    after: str = ""


class _Entry(NamedTuple):
    """An example as it is in the file: its place and its content, None if it is incomplete."""

    place: str
    example: FewShotExample | None


def read_few_shot_examples(path: StrPath) -> list[FewShotExample]:
    """Read the few-shot examples of a file, in its order.

    Args:
        path: A file with JSON, JSON Lines, YAML or, as ``.txt``, a transcript. A table, or a file
            with other content, has no examples.

    Raises:
        InputError: for each example that does not have its six texts, or has one that a
            constitution file could not keep as it is.
    """
    examples = []
    problems = []
    for number, entry in enumerate(_entries(Path(path)), start=1):
        if entry.example is None:
            text = f"invalid few-shot example; its turns must be {', '.join(LABELS)}, in this order"
            problems.append(Problem(entry.place, text))
        elif any(not text or text != text.strip() for text in _texts(entry.example)):
            text = f"example {number} has a text that is empty, or begins or ends with a blank"
            problems.append(Problem(entry.place, text))
        else:
            examples.append(entry.example)
    if problems:
        raise InputError(problems)
    return examples


def _texts(example: FewShotExample) -> list[str]:
    texts = [example.prompt, example.answer, example.critique_request, example.critique]
    earlier = [text for _, text in example.earlier]
    return [*earlier, *texts, example.revision_request, example.revision]


def _entries(path: Path) -> Iterator[_Entry]:
    """Find everything in a file that looks like an example."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        yield from _from_transcript(str(path), read_utf8(path))
    elif suffix not in TABLES:
        values = read_values(path)
        for value in values:
            if value.name == "system_chat":
                values = values_of(path, value.content)
        for value in values:
            yield from _from_value(value.place, value.content)


def _from_value(place: str, value: Any) -> Iterator[_Entry]:
    """Return the examples in one value; none for a value of another shape."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        if _LABEL.search(value) and unframed("critique", value) == value:
            yield from _from_transcript(place, value)
    elif isinstance(value, list) and value and all(map(_is_turn, value)):
        yield _Entry(place, _from_turns(value))


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value


def _from_turns(turns: list[Mapping[str, Any]]) -> FewShotExample | None:
    """Return the example in some turns; None if the roles are others or a text is missing."""
    texts = [turn.get("content") for turn in turns]
    roles = [turn["role"] for turn in turns]
    if len(turns) % 2 or roles != ROLES[:2] * (len(turns) // 2) or len(turns) < len(ROLES):
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    return _example([str(text) for text in texts])


def _example(texts: Sequence[str], after: str = "") -> FewShotExample:
    """Make an example of the texts of its turns, of which the last six are the usual ones."""
    before = len(texts) - len(LABELS)
    speakers: tuple[Role, Role] = ("user", "assistant")
    earlier = tuple((speakers[i % 2], text) for i, text in enumerate(texts[:before]))
    prompt, answer, critique_request, critique, revision_request, revision = texts[before:]
    return FewShotExample(
        prompt, answer, critique_request, critique, revision_request, revision, earlier, after
    )


def _from_transcript(place: str, transcript: str) -> Iterator[_Entry]:
    """Split a transcript into its examples; blanks around a text belong to the transcript."""
    pieces = _LABEL.split(transcript)[1:]
    turns = list(zip(pieces[::2], (text.strip() for text in pieces[1::2]), strict=True))
    after = ""
    if turns and turns[-1] == (LABELS[0], ""):  # of the turn that the model was to continue
        turns.pop()
        after = transcript[len(transcript.removesuffix(f"{LABELS[0]}:").rstrip()) :]
    ends = [i for i, (label, _) in enumerate(turns, start=1) if label == LABELS[-1]]
    for begin, end in pairwise([0, *ends]):
        yield _Entry(place, _from_labels(turns[begin:end], after if end == len(turns) else ""))
    if (ends or [0])[-1] < len(turns):
        yield _Entry(place, None)


def _from_labels(turns: Sequence[tuple[str, str]], after: str) -> FewShotExample | None:
    labels = [label for label, _ in turns]
    earlier = labels[: -len(LABELS)]
    is_complete = labels[-len(LABELS) :] == LABELS
    if not is_complete or len(earlier) % 2 or earlier != LABELS[:2] * (len(earlier) // 2):
        return None
    return _example([text for _, text in turns], after)
