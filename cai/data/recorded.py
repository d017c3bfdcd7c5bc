"""Read recorded answers by the model that wrote them, to be graded without asking it.

These are all answers; a row without a ``model`` is of the model that the file is named after::

    {"prompt": "Hello.", "response": "Hi!", "model": "mine"}
    {"instruction": "Hello.", "output": "Hi!", "generator": "mine"}
    {"messages": [{"role": "user", ...}, {"role": "assistant", ...}], "model": "mine"}

Records of ``cai sample`` and of ``cai eval`` are read too, and the logs of other tools, see
:mod:`cai.data.eval_logs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai.data.answers import is_sample
from cai.data.eval_logs import (
    inspect_answer,
    inspect_samples,
    is_inspect,
    is_lm_eval,
    lm_eval_answers,
    one_per_question,
)
from cai.data.prompts import PROMPT_COLUMNS, messages_of, prompt_in
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, summarized, type_in_words
from cai.files import StrPath
from cai.keys import digest
from cai.records import Prompt, Provenance, Sample
from cai.validation import explain

MODEL_COLUMNS = ("model", "generator", "model_id", "policy")
ANSWER_COLUMNS = ("response", "answer", "completion", "output", "generation")
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
    said, rows = recorded_rows(path, problems)
    for place, row in rows:
        try:
            read = answers_of(row, said)
        except ValidationError as error:
            detail = error.errors()[0]
            text = explain(detail, ".".join(map(str, detail["loc"])))
            problems.append(Problem(place, f"is not a recorded answer: {text}"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, str(error)))
        else:
            for sample in read:
                name = model or sample.provenance.model or Path(path).stem
                answers.setdefault(name, []).append(sample)
    if not answers and not problems:
        problems.append(Problem(str(path), "has no answers"))
    if problems:
        raise InputError(summarized(problems))
    return answers


def recorded_rows(path: StrPath, problems: list[Problem]) -> tuple[str, Iterable[tuple[str, Row]]]:
    """Return the model that a log names, if it is one, and the rows of a file with their places.

    Args:
        path: The file.
        problems: Lines that are not rows are added to it.
    """
    return inspect_samples(Path(path)) or ("", one_per_question(collect_rows(path, problems)))


def is_recorded(row: Row) -> bool:
    """Tell whether a row is in a format that only records of answers have.

    Args:
        row: The row.
    """
    is_grade = isinstance(row.get("prompt"), dict)
    return is_grade or is_sample(row) or is_inspect(row) or is_lm_eval(row)


def answers_of(row: Row, model: str = "") -> list[Sample]:
    """Return the answers of a row; their provenance names the model, if the row or the log does.

    Args:
        row: The row.
        model: The model that the log names.

    Raises:
        ValueError: If the row is no answer.
    """
    if is_sample(row):
        return [Sample.model_validate(row)]
    if is_inspect(row):
        return [inspect_answer(row, model)]
    if is_lm_eval(row):
        return list(lm_eval_answers(row))
    name = next((str(row[column]) for column in MODEL_COLUMNS if row.get(column)), "")
    prompt, answer = _prompt_and_answer(row)
    if not isinstance(answer, str):
        raise ValueError(f"the answer must be text, not {type_in_words(answer)}")
    sample = Sample(
        id=digest([prompt.id, answer, name]),
        prompt=prompt,
        response=answer,
        status="ok" if answer.strip() else "empty",
        provenance=Provenance(model=name, seed=0, temperature=0.0, max_tokens=0),
    )
    return [sample]


def _prompt_and_answer(row: Row) -> tuple[Prompt, Any]:
    if row.get("messages"):
        turns = messages_of(row["messages"])
        if turns[-1].role != "assistant":
            raise ValueError("the conversation does not end with an answer of the assistant")
        return prompt_in({**row, "prompt": row["messages"][:-1]}, KIND), turns[-1].content
    asked = any(row.get(name) is not None for name in PROMPT_COLUMNS)
    column = next((name for name in ANSWER_COLUMNS if row.get(name) is not None), "")
    if not asked or not column:
        raise ValueError(
            f"is not a recorded answer; columns: {', '.join(row)}; name them prompt and response"
        )
    if isinstance(row.get("prompt"), dict):  # a record of cai eval
        return Prompt.model_validate(row["prompt"]), row[column]
    return prompt_in(row, KIND), row[column]
