"""Answers to imitate, from files: what the supervised stage trains on when there is no constitution."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from cai.cleaning import clean
from cai.data.formats import FORMATS, Pair, format_of
from cai.data.prompts import messages_of, prompt_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem
from cai.files import StrPath
from cai.records import Prompt

KNOWN = "prompt, completion; messages that end with an answer; instruction, input, output; or preferences, whose better answer is taken"


@dataclass
class Demonstrations:
    """(prompt, answer) rows, and the places of what was left out, by reason."""

    rows: list[tuple[Prompt, str]] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> dict[str, int]:
        """How many rows were left out for which reason."""
        return {reason: len(places) for reason, places in self.skipped.items()}


def read_demonstrations(path: StrPath) -> Demonstrations:
    """The demonstrations of a table, each once.

    Raises:
        InputError: naming each row that is in no known form or holds something that is not text.
    """
    found, problems = Demonstrations(), list[Problem]()
    seen: set[tuple[str, str]] = set()
    for place, row in collect_rows(path, problems):
        try:
            outcome = _of(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, str(error)))
            continue
        if isinstance(outcome, str):
            found.skipped[outcome].append(place)
        elif (outcome[0].id, outcome[1]) in seen:
            found.skipped["is there twice"].append(place)
        else:
            seen.add((outcome[0].id, outcome[1]))
            found.rows.append(outcome)
    if problems:
        raise InputError(problems)
    return found


def _of(row: Row) -> tuple[Prompt, str] | str:
    """A row's prompt and answer, or why it has none."""
    if form := format_of(row):
        best = next(iter(FORMATS[form].read(row)), "no answer")
        return (best.prompt, best.better) if isinstance(best, Pair) else best
    if "messages" in row:
        turns = messages_of(row["messages"])
        if not turns or turns[-1].role != "assistant":
            return "does not end with an assistant turn"
        prompt: Any = [m.model_dump() for m in turns[:-1]]
        answer = turns[-1].content
    elif "completion" in row and "prompt" in row:
        prompt, value = row["prompt"], row["completion"]
        answer = messages_of(value)[-1].content if isinstance(value, list) and value else value
    elif "output" in row and "instruction" in row:
        prompt = "\n\n".join(
            part.strip() for part in (row["instruction"], row.get("input") or "") if part.strip()
        )
        answer = row["output"]
    else:
        raise ValueError(
            f"holds no demonstration; its columns are {', '.join(row)}; known forms are {KNOWN}"
        )
    if not isinstance(answer, str):
        raise ValueError(f"the answer should be a text, found {type(answer).__name__}")
    if not answer.strip():
        return "an answer is empty"
    try:
        return prompt_of(prompt, "human"), clean(answer).strip()
    except ValueError:
        return "no usable prompt"
