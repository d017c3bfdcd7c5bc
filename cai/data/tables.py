"""Read tables: rows of named fields from files, each with its place."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cai.data.values import YAML, is_json_lines, parse_json, values_of
from cai.documents import load
from cai.errors import InputError, Problem, type_in_words
from cai.files import StrPath, read_utf8, rows_of

Row = dict[str, Any]
TABLES = (".csv", ".tsv", ".parquet")
"""Suffixes of files whose rows have columns."""
_DELIMITERS = (",", ";", "\t", "|")
_CELL_IN_QUOTES = re.compile(r'"(?:[^"]|"")*"')
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
MAX_FIELD = 1 << 24
"""Maximum number of characters of a cell."""


def read_table(path: StrPath) -> Iterator[tuple[str, Row]]:
    """Read the rows of a file or of a saved dataset.

    Args:
        path: A JSON, JSON Lines, YAML, ``.csv`` or ``.tsv`` file, each of them gzipped or not, a
            ``.parquet`` file, or a folder saved by ``datasets``. JSON and JSON Lines are told apart
            by their content.

    Yields:
        ``(place, row)``; the place is ``file:line:col`` where there are lines.

    Raises:
        InputError: If the file cannot be read, for each line that is not a row.
    """
    path = Path(path)
    if path.is_dir():
        return _dataset(path)
    readers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet} | dict.fromkeys(YAML, _yaml)
    return readers.get(_suffix(path), _json)(path)


def is_given(value: Any) -> bool:
    """Return whether a cell has a value; in CSV one without is an empty text.

    Args:
        value: What it holds; JSON that Python wrote may have ``NaN`` instead of a value.
    """
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is not None and value != "" and not is_nan


def collect_rows(path: StrPath, problems: list[Problem]) -> Iterator[tuple[str, Row]]:
    """Read rows, adding lines that are not rows to ``problems`` instead of raising them."""
    try:
        yield from read_table(path)
    except InputError as error:
        problems += error.problems


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _json(path: Path) -> Iterator[tuple[str, Row]]:
    """Read a list of objects, or one object per line."""
    text = read_utf8(path)
    is_list = text.lstrip().startswith("[")
    if is_list or (_suffix(path) == ".json" and not is_json_lines(text)):
        yield from _objects(path, parse_json(path, text))
        return
    for number, row in rows_of(path, text):
        if _rows_in(row) is not row:
            yield from _objects(path, row)
        else:
            yield f"{path}:{number}:1", row


def _yaml(path: Path) -> Iterator[tuple[str, Row]]:
    yield from _objects(path, load(path).value)


def _objects(path: Path, content: Any) -> Iterator[tuple[str, Row]]:
    content = _rows_in(content)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError([_no_rows(path, content)])
    for number, value in enumerate(values_of(path, content), start=1):
        yield f"{path}: object {number}", value.content


def _rows_in(content: Any) -> Any:
    """The rows of a task of BIG-bench, or of HarmBench's completions; other content as it is."""
    if not isinstance(content, dict):
        return content
    if isinstance(content.get("examples"), list):
        return content["examples"]
    rows = [
        row
        for of_behavior in content.values()
        for row in (of_behavior if isinstance(of_behavior, list) else [None])
    ]
    is_harmbench = rows and all(isinstance(row, dict) and "test_case" in row for row in rows)
    return rows if is_harmbench else content


def _no_rows(path: Path, content: Any) -> Problem:
    found = "a list of other things" if isinstance(content, list) else type_in_words(content)
    return Problem(str(path), f"must be a list of objects, or one object per line, not {found}")


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    text = read_utf8(path)
    skipped = 0
    if named := _SEPARATOR_LINE.match(text):
        text, skipped = text[named.end() :], 1
    csv.field_size_limit(MAX_FIELD)
    delimiter = named[1] if named else _delimiter(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    problems = []
    header: list[str] = []
    try:
        for row in reader:
            place = f"{path}:{reader.line_num + skipped}:1"
            if not any(cell.strip() for cell in row):
                continue  # spreadsheets save blank rows as delimiters alone
            if not header:
                header = _columns(row)
                if twice := [n for n, count in Counter(header).items() if n and count > 1]:
                    message = f"has two columns named {twice[0]!r}; rename one of them"
                    raise InputError([Problem(place, message)])
            elif len(row) != len(header):
                message = f"does not have {len(header)} fields as the first line does"
                problems.append(Problem(place, message))
            else:
                yield place, dict(zip(header, row, strict=True))
    except csv.Error as error:
        place = f"{path}:{reader.line_num + skipped}:1"
        problems.append(Problem(place, f"invalid CSV: {error}"))
    if problems:
        raise InputError(problems)


def _delimiter(path: Path, text: str) -> str:
    """Return the delimiter that the first line has most of."""
    if _suffix(path) == ".tsv":
        return "\t"
    first_line = _CELL_IN_QUOTES.sub("", text.lstrip()).partition("\n")[0]
    return max(_DELIMITERS, key=first_line.count)


def _columns(row: Sequence[str]) -> list[str]:
    """Name the columns in lower case, in which formats are known, unless two would be the same."""
    stripped = [cell.strip() for cell in row]
    lower = [cell.lower() for cell in stripped]
    return lower if len(set(lower)) == len(lower) else stripped


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    from pyarrow import lib, parquet  # comes with datasets

    try:
        file: Any = parquet.ParquetFile(path)  # type: ignore[no-untyped-call]
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except UnicodeDecodeError as error:
        raise InputError([_not_utf8(str(path), error)]) from None
    except (OSError, lib.ArrowException) as error:
        message = f"is not a Parquet file: {str(error).splitlines()[0]}"
        raise InputError([Problem(str(path), message)]) from None


def _dataset(path: Path) -> Iterator[tuple[str, Row]]:
    from datasets.arrow_dataset import Dataset
    from datasets.load import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except Exception as error:  # noqa: BLE001 - its files may hold anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError([Problem(str(path), f"is not a saved dataset: {reason}")]) from None
    if not isinstance(loaded, Dataset):
        message = f"has several splits; name the folder of one: {', '.join(map(str, loaded))}"
        raise InputError([Problem(str(path), message)])
    for number in range(len(loaded)):
        place = f"{path}: row {number + 1}"
        try:
            yield place, loaded[number]
        except UnicodeDecodeError as error:
            raise InputError([_not_utf8(place, error)]) from None


def _not_utf8(place: str, error: UnicodeDecodeError) -> Problem:
    return Problem(place, f"has text that is not UTF-8 (byte {error.start})")
