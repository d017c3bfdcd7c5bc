"""Read multiple-choice questions from the formats in which people publish them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import model_validator

from cai.data.choice_formats import CHOICE_FORMATS, Draft, Outcome
from cai.data.choice_layout import LETTERS, Layout
from cai.data.formats import FORMATS
from cai.data.published import in_known_columns
from cai.data.row_formats import format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, did_you_mean, summarized
from cai.files import StrPath
from cai.keys import digest, uniform
from cai.records import Prompt, Record, Text

SUBSET_COLUMNS = ("subset", "subject", "category", "activity_label", "source")
"""Names of a column that says which part of a data set a row belongs to."""
THOUGHT_COLUMNS = ("thought", "cot_content", "rationale", "explanation")
"""Names of a column with a chain of thought that leads to the right answer."""


class ChoiceQuestion(Record):
    """A question with options of which one or more are right.

    Attributes:
        id: Digest of the prompt, the options and the right ones.
        prompt: The conversation that an option's text continues.
        options: The options.
        correct: The numbers of the right ones, from 0.
        is_reply: Whether the options are whole replies to the prompt, of which one is better;
            otherwise they are answers to a question.
        layout: How the question itself shows its options, if it does.
        name: The row's own name, such as ``tied:3``.
        subset: The part of the data set that it belongs to.
        thought: A chain of thought that leads to the right answer, for few-shot examples.
        place: Where it was read.
    """

    id: str
    prompt: Prompt
    options: tuple[Text, ...]
    correct: tuple[int, ...]
    is_reply: bool = False
    layout: Layout | None = None
    name: Text = ""
    subset: Text = ""
    thought: Text = ""
    place: str = ""

    @model_validator(mode="after")
    def _is_a_choice(self) -> ChoiceQuestion:
        numbers = set(range(len(self.options)))
        if not set(self.correct) < numbers or not self.correct:
            raise ValueError("a question needs a right option and a wrong one")
        return self


@dataclass
class ChoiceFile:
    """What a file of multiple-choice questions holds.

    Attributes:
        format: Name of its format: one of ``CHOICE_FORMATS``, or a format of preferences.
        questions: The questions, each once.
        skipped: Places of rows that were left out, by reason.
    """

    format: str = ""
    questions: list[ChoiceQuestion] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> dict[str, int]:
        """Count the rows that were left out, by reason."""
        return {reason: len(places) for reason, places in self.skipped.items()}


def read_choices(path: StrPath) -> ChoiceFile:
    """Read the multiple-choice questions of a file.

    The first row decides the format. A row that holds no usable question is left out and counted.
    Options without an order of their own get one that does not tell which is right.

    Args:
        path: A table: JSON, JSON Lines, CSV, TSV, Parquet, or a saved dataset.

    Raises:
        InputError: If the format is not known, for each row that lacks a column or has something
            in it that cannot be read, or for a file without questions.
    """
    file = ChoiceFile()
    problems: list[Problem] = []
    known: dict[str, tuple[str, ...]] = {}
    for place, row in collect_rows(path, problems):
        try:
            row = in_known_columns(row)
            file.format = file.format or format_of(row, CHOICE_FORMATS) or format_of(row, FORMATS)
            if not file.format:
                raise InputError([_unknown_format(place, list(row))])
            outcomes = _outcomes(file.format, row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, _explain(error, row)))
            continue
        for outcome in outcomes:
            _add(file, outcome, place, row, known)
    if not problems and not file.questions:
        reasons = "".join(f"; {count}: {reason}" for reason, count in file.counts.items())
        problems.append(Problem(str(path), f"has no multiple-choice questions{reasons}"))
    if problems:
        raise InputError(summarized(problems))
    return file


def _outcomes(format_name: str, row: Row) -> list[Outcome]:
    if format_name in CHOICE_FORMATS:
        return [CHOICE_FORMATS[format_name].read(row)]
    outcomes: list[Outcome] = []
    for pair in FORMATS[format_name].read(row):
        if isinstance(pair, str):
            outcomes.append(pair)
            continue
        options, right = (pair.better, pair.worse), frozenset({0 if pair.p_better > 0.5 else 1})
        draft = Draft(pair.prompt, options, right, is_reply=True, is_ordered=False)
        outcomes.append("a tie" if pair.p_better == 0.5 else draft)
    return outcomes


def _add(
    file: ChoiceFile, outcome: Outcome, place: str, row: Row, known: dict[str, tuple[str, ...]]
) -> None:
    """Add a question to a file, or count why it is left out."""
    if isinstance(outcome, Draft):
        outcome = _unusable(outcome) or outcome
    if isinstance(outcome, str):
        file.skipped[outcome].append(place)
        return
    question = _question(outcome, place, row)
    asked = digest([question.prompt.id, *sorted(question.options)])
    right = tuple(sorted(digest(question.options[i]) for i in question.correct))
    if asked in known:
        reason = "duplicate" if known[asked] == right else "contradicts an earlier row"
        file.skipped[reason].append(place)
        return
    known[asked] = right
    file.questions.append(question)


def _unusable(draft: Draft) -> str:
    """Say why a draft cannot be asked; empty if it can."""
    options = draft.options
    if not all(options):
        return "an option is empty"
    if len(set(options)) < len(options):
        return "two options are the same"
    if len(options) > len(LETTERS):
        return f"more than {len(LETTERS)} options"
    if not draft.correct or len(draft.correct) == len(options):
        return "no option is right" if not draft.correct else "no option is wrong"
    return ""


def _question(draft: Draft, place: str, row: Row) -> ChoiceQuestion:
    order = list(range(len(draft.options)))
    if not draft.is_ordered:
        order.sort(key=lambda i: uniform("option order", draft.prompt.id, draft.options[i]))
    options = [draft.options[i] for i in order]
    correct = sorted(order.index(i) for i in draft.correct)
    content: list[Any] = [draft.prompt.id, options, correct]
    if draft.layout:
        content.append(draft.layout.model_dump())
    return ChoiceQuestion(
        id=digest(content),
        prompt=draft.prompt,
        options=tuple(options),
        correct=tuple(correct),
        is_reply=draft.is_reply,
        layout=draft.layout,
        name=str(row.get("id", "")),
        subset=_first_text(row, SUBSET_COLUMNS),
        thought=_first_text(row, THOUGHT_COLUMNS).strip(),
        place=place,
    )


def _first_text(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((row[name] for name in names if isinstance(row.get(name), str)), "")


def _unknown_format(place: str, columns: list[str]) -> Problem:
    known = "; ".join(form.columns for form in CHOICE_FORMATS.values())
    wanted = ("question", "choices", "answer", "corrects", "incorrects")
    missing = [name for name in wanted if name not in columns]
    hints = dict.fromkeys(did_you_mean(name, columns) for name in missing)
    message = f"is no multiple-choice question{''.join(hints)}; columns: {', '.join(columns)}"
    return Problem(place, f"{message}; known formats: {known}; or a format of preferences")


def _explain(error: Exception, row: Row) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"has no column {error}{did_you_mean(str(error.args[0]), row)}"
    return str(error)
