"""Read the values of JSON, JSON Lines and YAML files, whatever their names end in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from cai.documents import load
from cai.errors import InputError, Problem
from cai.files import lines_of, read_utf8, strict_json

YAML = (".yaml", ".yml")


class Value(NamedTuple):
    """A value of a file.

    Attributes:
        place: Where it is: ``file: name``, or ``file:line:col`` in JSON Lines.
        name: Its name in an object, or its number in a list, from 1.
        content: The value.
    """

    place: str
    name: str
    content: Any


def read_values(path: Path) -> list[Value]:
    """Read the values of a list or of an object with names.

    Args:
        path: A file with JSON, JSON Lines or YAML, gzipped or not.

    Raises:
        InputError: if the file cannot be read.
    """
    if path.suffix.lower() in YAML:
        return values_of(path, load(path).value)
    text = read_utf8(path)
    is_one_line = "\n" not in text.strip()
    if is_one_line or not is_json_lines(text):
        return values_of(path, parse_json(path, text))
    return _json_lines(path, text)


def values_of(path: Path, content: Any) -> list[Value]:
    """Return the values of a list or of an object; none of anything else.

    Args:
        path: The file, for messages.
        content: What the file holds.
    """
    if isinstance(content, dict):
        return [Value(f"{path}: {name}", str(name), value) for name, value in content.items()]
    if isinstance(content, list):
        names = [f"{number:02}" for number in range(1, len(content) + 1)]
        return [Value(f"{path}: {n}", n, value) for n, value in zip(names, content, strict=True)]
    return []


def parse_json(path: Path, text: str) -> Any:
    """Parse a JSON text.

    Args:
        path: The file that it is from.
        text: The text.

    Raises:
        InputError: with the place of what is invalid.
    """
    try:
        return strict_json(text)
    except (ValueError, RecursionError) as error:
        at = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        message = f"invalid JSON: {getattr(error, 'msg', error)}"
        raise InputError([Problem(f"{path}{at}", message)]) from None


def is_json_lines(text: str) -> bool:
    """Whether the first line of a text is a JSON value of its own.

    Args:
        text: The text.
    """
    first = next((line for _, line in lines_of(text)), "")
    try:
        strict_json(first)
    except (ValueError, RecursionError):
        return False
    return True


def _json_lines(path: Path, text: str) -> list[Value]:
    rows: list[Value] = []
    problems = []
    for number, line in lines_of(text):
        try:
            content = strict_json(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"{path}:{number}:1", f"invalid JSON: {error}"))
        else:
            rows.append(Value(f"{path}:{number}:1", f"{len(rows) + 1:02}", content))
    if problems:
        raise InputError(problems)
    return rows
