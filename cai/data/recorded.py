"""Read recorded answers by the model that wrote them, to be graded without asking it.

These are all answers; a row without a ``model`` is of the model that the file is named after::

    {"prompt": "Hello.", "response": "Hi!", "model": "mine"}
    {"instruction": "Hello.", "output": "Hi!", "generator": "mine"}
    {"messages": [{"role": "user", ...}, {"role": "assistant", ...}], "model": "mine"}

Records of ``cai sample`` and of ``cai eval`` are read too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai.data.answers import is_sample
from cai.data.prompts import messages_of, prompt_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, summarized
from cai.files import StrPath
from cai.keys import digest
from cai.records import Prompt, Provenance, Sample
from cai.validation import explain

MODEL_COLUMNS = ("model", "generator", "model_id", "policy")
PROMPT_COLUMNS = ("prompt", "question", "instruction")
ANSWER_COLUMNS = ("response", "answer", "completion", "output")
KIND = "recorded"


def read_recorded(path: StrPath, model: str = "") -> dict[str, list[Sample]]:
    """Read recorded answers.

    Args:
        path: A table: JSON, JSON Lines, YAML, CSV, TSV or Parquet.
        model: Name of the model that wrote all of them; empty: as the rows say.

    Returns:
        The answers by model, each with its number among those to the same prompt.

    Raises:
        InputError: For each row that is no answer, or for a file without any.
    """
    problems: list[Problem] = []
    answers: dict[str, list[Sample]] = {}
    for place, row in collect_rows(path, problems):
        try:
            name, sample = _answer(row)
        except ValidationError as error:
            detail = error.errors()[0]
            text = explain(detail, ".".join(map(str, detail["loc"])))
            problems.append(Problem(place, f"is not a recorded answer: {text}"))
        except ValueError as error:
            problems.append(Problem(place, str(error)))
        else:
            answers.setdefault(model or name or Path(path).stem, []).append(sample)
    if not answers and not problems:
        problems.append(Problem(str(path), "has no answers"))
    if problems:
        raise InputError(summarized(problems))
    return answers


def _answer(row: Row) -> tuple[str, Sample]:
    """The model of a row, empty if it names none, and the answer."""
    if is_sample(row):
        sample = Sample.model_validate(row)
        return sample.provenance.model, sample
    name = next((str(row[column]) for column in MODEL_COLUMNS if row.get(column)), "")
    prompt, answer = _prompt_and_answer(row)
    if not isinstance(answer, str):
        raise ValueError(f"the answer must be text, not {type(answer).__name__}")
    return name, Sample(
        id=digest([prompt.id, answer, name]),
        prompt=prompt,
        response=answer,
        status="ok" if answer.strip() else "empty",
        provenance=Provenance(model=name, seed=0, temperature=0.0, max_tokens=0),
    )


def _prompt_and_answer(row: Row) -> tuple[Prompt, Any]:
    if row.get("messages"):
        turns = messages_of(row["messages"])
        if turns[-1].role != "assistant":
            raise ValueError("the conversation does not end with an answer of the assistant")
        return prompt_of([turn.model_dump() for turn in turns[:-1]], KIND), turns[-1].content
    asked = next((name for name in PROMPT_COLUMNS if row.get(name) is not None), "")
    column = next((name for name in ANSWER_COLUMNS if row.get(name) is not None), "")
    if not asked or not column:
        raise ValueError(
            f"is not a recorded answer; columns: {', '.join(row)}; name them prompt and response"
        )
    value = row[asked]
    if isinstance(value, dict):  # a record of cai eval
        return Prompt.model_validate(value), row[column]
    if asked == "instruction" and row.get("input"):
        value = f"{value}\n\n{row['input']}"
    return prompt_of(value, KIND), row[column]
