"""Read answers to be critiqued and revised: those of ``cai sample``, or of any other origin."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from cai.data.demonstrations import read_demonstrations
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem
from cai.files import StrPath
from cai.keys import digest
from cai.records import Prompt, Provenance, Sample
from cai.validation import explain


@dataclass
class AnswerFile:
    """What a file of answers holds.

    Attributes:
        samples: The answers.
        skipped: Number of rows that were left out, by reason.
    """

    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def read_answers(path: StrPath) -> AnswerFile:
    """Read answers: records of ``cai sample``, or rows with a prompt and an answer.

    Args:
        path: A table in one of the formats of demonstrations, or records as JSON Lines or Parquet.

    Raises:
        InputError: For each row that is neither.
    """
    problems: list[Problem] = []
    samples: list[Sample] = []
    for place, row in collect_rows(path, problems):
        if not samples and not problems and not is_sample(row):
            return _demonstrations(path)
        try:
            samples.append(Sample.model_validate(row))
        except ValidationError as error:
            detail = error.errors()[0]
            message = explain(detail, ".".join(map(str, detail["loc"])))
            problems.append(Problem(place, f"is not a record of cai sample: {message}"))
    if problems:
        raise InputError(problems)
    return AnswerFile(samples)


def is_sample(row: Row) -> bool:
    """Tell whether a row is a record that ``cai sample`` wrote."""
    return isinstance(row.get("provenance"), dict) and "response" in row


def _demonstrations(path: StrPath) -> AnswerFile:
    file = read_demonstrations(path)
    return AnswerFile([_sample(prompt, answer) for prompt, answer in file.rows], file.counts)


def _sample(prompt: Prompt, answer: str) -> Sample:
    """An answer of which nobody knows how it was made."""
    return Sample(
        id=digest([prompt.id, answer]),
        prompt=prompt,
        response=answer,
        provenance=Provenance(model="", seed=0, temperature=0.0, max_tokens=0),
    )
