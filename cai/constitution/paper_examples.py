"""Read the paper's few-shot examples of comparisons: a prompt with right and wrong answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cai.constitution.paper import unframed
from cai.constitution.schema import Example
from cai.data.tables import TABLES
from cai.data.values import read_values
from cai.errors import InputError, Problem
from cai.files import StrPath

_OF_REASONING = "{}\n (A) ["
"""What only the prompts of the paper's examples of reasoning contain."""


def read_comparisons(path: StrPath) -> list[Example]:
    """Read the examples of a file whose entries have ``prompt``, ``corrects`` and ``incorrects``.

    Args:
        path: A file with JSON, JSON Lines or YAML. Any other file has no such examples.

    Raises:
        InputError: for each entry whose prompt or answers are not text, and for the paper's
            examples of reasoning, which have no place in a constitution.
    """
    path = Path(path)
    if path.suffix.lower() in (*TABLES, ".txt"):
        return []
    examples: list[Example] = []
    problems: list[Problem] = []
    for place, _, content in read_values(path):
        if not isinstance(content, Mapping) or "prompt" not in content:
            continue
        if _OF_REASONING in str(content["prompt"]):
            text = "is an example of reasoning before a verdict, which cai does not read"
            problems.append(Problem(place, text))
        elif "corrects" in content or "incorrects" in content:
            try:
                examples += _examples(content)
            except (ValidationError, TypeError):
                text = "prompt, corrects and incorrects must be a text and two lists of texts"
                problems.append(Problem(place, text))
    if problems:
        raise InputError(problems)
    return examples


def _examples(content: Mapping[str, Any]) -> Sequence[Example]:
    prompt = content["prompt"]
    if not isinstance(prompt, str):
        raise TypeError
    pairs = product(content["corrects"], content["incorrects"])
    asked = unframed("prompt", prompt)
    return [Example(prompt=asked, better=better, worse=worse) for better, worse in pairs]
