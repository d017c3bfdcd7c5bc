"""Prompts and human preferences from JSON-lines files; what cannot be used is counted by reason, never dropped in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cai.errors import InputError, Problem, did_you_mean
from cai.files import read_rows
from cai.keys import digest
from cai.records import Comparison, Message, Preference, Prompt

_TURNS = TypeAdapter(tuple[Message, ...])
_ROLE = {"Human": "user", "Assistant": "assistant"}
_MARKER = re.compile(r"\n\n(Human|Assistant):")


def read_prompts(path: Path, kind: str, limit: int = 0) -> list[Prompt]:
    """The prompts of a file with rows ``{"prompt": text or messages}`` or ``{"messages": [...]}``, each once.

    Raises:
        InputError: naming each row that holds no prompt, or the file if it holds none at all.
    """
    prompts: dict[str, Prompt] = {}
    problems = []
    for number, row in read_rows(path):
        value = row.get("prompt", row.get("messages"))
        try:
            prompt = _prompt(value, kind)
        except ValueError as error:
            hint = "" if "prompt" in row or "messages" in row else did_you_mean("prompt", row)
            problems.append(Problem(f"{path}:{number}:1", f"{error}{hint}"))
            continue
        prompts.setdefault(prompt.id, prompt)
    if not prompts and not problems:
        problems.append(Problem(str(path), "holds no prompt"))
    if problems:
        raise InputError(problems)
    return list(prompts.values())[: limit or None]


def _prompt(value: Any, kind: str) -> Prompt:
    if isinstance(value, str):
        if not value.strip():
            raise ValueError("the prompt is empty")
        return Prompt.of(clean(value), kind)
    if not isinstance(value, list):
        raise ValueError(f'has no text or messages under "prompt" or "messages" (found {type(value).__name__})')
    try:
        turns = _TURNS.validate_python(value)
    except ValidationError as error:
        detail = error.errors()[0]
        raise ValueError(f"message {'.'.join(map(str, detail['loc']))}: {detail['msg']}") from None
    if not turns or turns[-1].role != "user":
        raise ValueError("the conversation does not end with a user turn")
    if not turns[-1].content.strip():
        raise ValueError("the last user turn is empty")
    return Prompt.of(tuple(Message(role=t.role, content=clean(t.content)) for t in turns), kind)


def clean(text: str) -> str:
    """The text with lone surrogates replaced; they break every file format further on."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_preferences(path: Path) -> tuple[list[Preference], Counter[str]]:
    """Human preferences from rows ``{prompt, chosen, rejected}`` or HH-RLHF transcripts ``{chosen, rejected}``.

    Returns them in file order with label 1, and how many rows were left out for which reason.

    Raises:
        InputError: if a row lacks a column or holds something that is not text.
    """
    preferences, skipped, problems = [], Counter[str](), []
    for number, row in read_rows(path):
        where = f"{path}:{number}:1"
        bad = [name for name in ("chosen", "rejected") if not isinstance(row.get(name), str)]
        if bad:
            found = type(row[bad[0]]).__name__ if bad[0] in row else "nothing"
            problems.append(
                Problem(where, f"{bad[0]} should be a text, found {found}{did_you_mean(bad[0], row) if bad[0] not in row else ''}")
            )
            continue
        comparison = _comparison(row)
        if isinstance(comparison, str):
            skipped[comparison] += 1
            continue
        preferences.append(Preference(id=digest([comparison.id, "human"]), comparison=comparison, p_first=1.0, source="human"))
    if problems:
        raise InputError(problems)
    return preferences, skipped


def _comparison(row: dict[str, Any]) -> Comparison | str:
    """A row's comparison, chosen first, or the reason why it is none."""
    chosen, rejected = clean(row["chosen"]), clean(row["rejected"])
    if "prompt" in row:
        try:
            prompt = _prompt(row["prompt"], "human")
        except ValueError:
            return "no usable prompt"
    else:
        parsed = [parse_transcript(text) for text in (chosen, rejected)]
        if isinstance(parsed[0], str) or isinstance(parsed[1], str):
            return next(p for p in parsed if isinstance(p, str))
        (turns, chosen), (others, rejected) = parsed[0], parsed[1]
        if turns != others:
            return "the two transcripts begin differently"
        prompt = Prompt.of(turns, "human")
    if not chosen.strip() or not rejected.strip():
        return "an answer is empty"
    if chosen.strip() == rejected.strip():
        return "both answers are the same"
    return Comparison.of(prompt, chosen.strip(), rejected.strip(), ("human", "human"))


def parse_transcript(text: str) -> tuple[tuple[Message, ...], str] | str:
    """Split an HH-RLHF transcript at its last assistant turn into the conversation and the answer, or say why not."""
    pieces = _MARKER.split(text if text.startswith("\n\n") else f"\n\n{text}")
    roles, contents = pieces[1::2], [piece.strip() for piece in pieces[2::2]]
    if pieces[0].strip() or not roles:
        return "is no transcript of Human and Assistant turns"
    if roles[-1] != "Assistant":
        return "does not end with an assistant turn"
    if any(one == other for one, other in pairwise(roles)):
        return "one speaker has two turns in a row"
    if roles[0] != "Human":
        return "does not begin with a human turn"
    if not all(contents[:-1]):
        return "a turn is empty"
    turns = tuple(Message(role=_ROLE[r], content=c) for r, c in zip(roles[:-1], contents[:-1], strict=True))  # type: ignore[arg-type]
    return turns, contents[-1]


def by_kind(prompts: Sequence[Prompt], kind: str) -> list[Prompt]:
    """The prompts of one set."""
    return [prompt for prompt in prompts if prompt.kind == kind]
