"""Read tables: rows of named fields from files, each with its place."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai.errors import InputError, Problem
from cai.files import StrPath, read_rows, read_utf8, strict_json

Row = dict[str, Any]


def read_table(path: StrPath) -> Iterator[tuple[str, Row]]:
    """Read the rows of a file or of a saved dataset.

    Args:
        path: A ``.jsonl``, ``.json`` (a list of objects), ``.csv`` or ``.tsv`` file, each of them
            gzipped or not, a ``.parquet`` file, or a folder saved by ``datasets``.

    Yields:
        ``(place, row)``; the place is ``file:line:col`` where there are lines.

    Raises:
        InputError: If the file cannot be read, for each line that is not a row.
    """
    path = Path(path)
    if path.is_dir():
        return _dataset(path)
    readers = {".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    return readers.get(_suffix(path), _jsonl)(path)


def collect_rows(path: StrPath, problems: list[Problem]) -> Iterator[tuple[str, Row]]:
    """Read rows, adding lines that are not rows to ``problems`` instead of raising them."""
    try:
        yield from read_table(path)
    except InputError as error:
        problems += error.problems


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    for number, row in read_rows(path):
        yield f"{path}:{number}:1", row


def _json(path: Path) -> Iterator[tuple[str, Row]]:
    text = read_utf8(path)
    try:
        rows = strict_json(text)
    except (ValueError, RecursionError) as error:
        at = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        message = f"invalid JSON: {getattr(error, 'msg', error)}"
        raise InputError([Problem(f"{path}{at}", message)]) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        message = "must be a list of objects; a file with one object per line is named .jsonl"
        raise InputError([Problem(str(path), message)])
    for number, row in enumerate(rows, start=1):
        yield f"{path}: object {number}", row


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.DictReader(
        io.StringIO(read_utf8(path), newline=""),
        delimiter="\t" if _suffix(path) == ".tsv" else ",",
        strict=True,
    )
    problems = []
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}:1"
            if None in row or None in row.values():
                fields = len(reader.fieldnames or ())
                message = f"does not have {fields} fields as the first line does"
                problems.append(Problem(place, message))
            else:
                yield place, row
    except csv.Error as error:
        problems.append(Problem(f"{path}:{reader.line_num}:1", f"invalid CSV: {error}"))
    if problems:
        raise InputError(problems)


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
    except (OSError, ValueError) as error:
        message = f"is not a saved dataset: {str(error).splitlines()[0]}"
        raise InputError([Problem(str(path), message)]) from None
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
