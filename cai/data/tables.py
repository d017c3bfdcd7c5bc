"""Rows of named fields from the files people keep them in, each with the place it stands at."""

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
    """The rows of a ``.jsonl``, ``.json`` (a list of objects), ``.csv``, ``.tsv`` (each of them ``.gz`` or not) or ``.parquet`` file,
    or of a ``datasets`` folder.

    Yields ``(place, row)``; the place is ``file:line:col`` where there are lines.

    Raises:
        InputError: if the file cannot be read, naming each line that is no row.
    """
    path = Path(path)
    if path.is_dir():
        return _dataset(path)
    readers = {".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    return readers.get(_suffix(path), _jsonl)(path)


def collect_rows(path: StrPath, problems: list[Problem]) -> Iterator[tuple[str, Row]]:
    """Rows as by :func:`read_table`; lines that are no row are added to ``problems`` instead of raised."""
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
        raise InputError(
            [Problem(f"{path}{at}", f"is no JSON: {getattr(error, 'msg', error)}")]
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            [
                Problem(
                    str(path),
                    "should be a list of objects with named fields; one object per line goes into a .jsonl file",
                )
            ]
        )
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
                problems.append(
                    Problem(
                        place,
                        f"has another number of fields than the {len(reader.fieldnames or ())} of the first line",
                    )
                )
            else:
                yield place, row
    except csv.Error as error:
        problems.append(Problem(f"{path}:{reader.line_num}:1", f"is no CSV: {error}"))
    if problems:
        raise InputError(problems)


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    from pyarrow import lib, parquet  # comes with datasets

    try:
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except UnicodeDecodeError as error:
        raise InputError(
            [Problem(str(path), f"holds a text that is not UTF-8 (byte {error.start} of it)")]
        ) from None
    except (OSError, lib.ArrowException) as error:
        raise InputError(
            [Problem(str(path), f"is no parquet file: {str(error).splitlines()[0]}")]
        ) from None


def _dataset(path: Path) -> Iterator[tuple[str, Row]]:
    from datasets.arrow_dataset import Dataset
    from datasets.load import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise InputError(
            [Problem(str(path), f"is no saved dataset: {str(error).splitlines()[0]}")]
        ) from None
    if not isinstance(loaded, Dataset):
        raise InputError(
            [
                Problem(
                    str(path),
                    f"holds several splits; name the folder of one of {', '.join(map(str, loaded))}",
                )
            ]
        )
    for number in range(len(loaded)):
        try:
            yield f"{path}: row {number + 1}", loaded[number]
        except UnicodeDecodeError as error:
            raise InputError(
                [
                    Problem(
                        f"{path}: row {number + 1}",
                        f"holds a text that is not UTF-8 (byte {error.start} of it)",
                    )
                ]
            ) from None
