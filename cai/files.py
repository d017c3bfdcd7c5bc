"""Read files strictly, and write them whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cai.cleaning import clean_json
from cai.errors import InputError, LimitReached, Problem, type_in_words
from cai.records import Record

R = TypeVar("R", bound=Record)
StrPath = str | os.PathLike[str]
GZIP_MAGIC = b"\x1f\x8b"
MAX_GZIP_RATIO = 100
"""By how much a gzip file may grow; texts grow by 3 to 20."""
MIN_UNPACKED = 64 << 20
"""Bytes that any gzip file may unpack to."""
MAX_UNPACKED = 1 << 30
"""Bytes that no gzip file may unpack to."""


# -- writing ---------------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically, and make its folder if need be.

    Raises:
        LimitReached: If the disk is full or the folder cannot be written. The file keeps its
            previous content.
    """
    _write_atomically(path, [text])


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically.

    Numbers that are not finite, which JSON does not have, are left out; see :func:`finite`.

    Raises:
        LimitReached: If the file cannot be written.
    """
    value = finite(value)
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any, left_out: list[str] | None = None, name: str = "") -> Any:
    """Return a value without numbers that are not finite.

    Args:
        value: Nested mappings, lists and plain values.
        left_out: Gets the dotted name of every number that is left out.
        name: The name of the value.

    Returns:
        The value; such a number is left out of a mapping, and None in a list.
    """
    if isinstance(value, float) and not math.isfinite(value):
        if left_out is not None:
            left_out.append(name)
        return None
    if isinstance(value, Mapping):
        parts = {key: finite(v, left_out, f"{name}.{key}".lstrip(".")) for key, v in value.items()}
        return {key: v for key, v in parts.items() if v is not None or value[key] is None}
    if isinstance(value, list | tuple):
        return [finite(item, left_out, f"{name}.{i}") for i, item in enumerate(value)]
    return value


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, atomically and as they come: memory holds one at a time.

    Raises:
        LimitReached: If the file cannot be written.
    """
    _write_atomically(path, (record.model_dump_json() + "\n" for record in records))


def _write_atomically(path: Path, chunks: Iterable[str]) -> None:
    """Write a temporary file in the same folder, then rename it."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        _write_chunks(handle, path, chunks)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_chunks(handle: int, path: Path, chunks: Iterable[str]) -> None:
    file = os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n")
    try:
        # making a chunk may fail for reasons of its own, which are not the disk's
        for chunk in chunks:
            with disk_errors(path):
                file.write(chunk)
        with disk_errors(path):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):  # a full disk refuses the rest once more
            file.close()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`LimitReached` that names the file."""
    try:
        yield
    except OSError as error:
        raise LimitReached(f"{path}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder beside its place, and put it there at the end: never half of it is there.

    Args:
        path: The folder, which does not exist or is empty.

    Yields:
        Where to write; it does not exist. What an earlier process left there is removed.
    """
    begun = path.with_name(f"{path.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    yield begun
    begun.replace(path)


# -- reading ---------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """Read a JSON file that :func:`write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object that :func:`write_json` wrote.

    Returns:
        The object; None if there is no such file, or if it is damaged, which is said once.
    """
    if not path.is_file():
        return None
    try:
        value = read_json(path)
    except (OSError, ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    report_damaged(path)
    return None


def complete_rows(lines: Iterable[str | bytes]) -> list[dict[str, Any]]:
    """Read the objects of JSON lines to which a process adds; one that a kill cut off is left out.

    Args:
        lines: The lines.
    """
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


@cache
def report_damaged(path: Path) -> None:
    """Say that a file is damaged and not used, once per process."""
    print(f"warning: {path} is damaged and is not used", file=sys.stderr)


def stream_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Yield the records of a file that :func:`write_records` wrote, one at a time.

    Raises:
        InputError: At the first line that is not such a record.
    """
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise InputError([_invalid_record(path, number, error)]) from None


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Read all records of a file that :func:`write_records` wrote.

    Raises:
        InputError: Naming every line that is not such a record.
    """
    records: list[R] = []
    problems: list[Problem] = []
    for number, line in lines_of(read_utf8(path)):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            problems.append(_invalid_record(path, number, error))
    if problems:
        raise InputError(problems)
    return records


def _invalid_record(path: Path, number: int, error: ValidationError) -> Problem:
    return Problem(f"{path}:{number}:1", str(error.errors()[0]["msg"]))


def rows_of(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a text in JSON lines with their line numbers.

    Raises:
        InputError: Naming every line that is not a JSON object, after all others were yielded.
    """
    problems: list[Problem] = []
    for number, line in lines_of(text):
        place = f"{path}:{number}:1"
        try:
            row = strict_json(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(place, f"invalid JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            kind = type_in_words(row)
            problems.append(Problem(place, f"expected an object with named fields, found {kind}"))
    if problems:
        raise InputError(problems)


def strict_json(text: str) -> Any:
    """Parse JSON; refuse objects with a duplicate key.

    Raises:
        ValueError: If the text is not valid JSON.
        RecursionError: If it is nested too deeply.
    """
    value = json.loads(text, object_pairs_hook=_unique_keys)
    # an escape such as \ud800 in a JSON text is a lone surrogate, which no record can hold
    return clean_json(value) if "\\u" in text else value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"duplicate key {name!r}")
    return dict(pairs)


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the non-blank lines of a text, numbered from 1; only a line feed ends a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def read_utf8(path: Path) -> str:
    """Read a UTF-8 file, compressed by gzip or not, without its byte order mark.

    Raises:
        InputError: If the file cannot be read, is damaged, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
        if data.startswith(GZIP_MAGIC):
            data = _unpacked(path, data)
        return data.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError([Problem(str(path), f"is a damaged gzip file: {error}")]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise InputError([Problem(str(path), message)]) from None
    except (OSError, ValueError) as error:  # the latter for a name with a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(str(path), f"cannot be read: {reason}")]) from None


def _unpacked(path: Path, data: bytes) -> bytes:
    """Unpack a gzip file, of which a few megabytes may hold many gigabytes."""
    limit = min(MAX_UNPACKED, max(MIN_UNPACKED, MAX_GZIP_RATIO * len(data)))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        unpacked = file.read(limit + 1)
    if len(unpacked) > limit:
        text = f"unpacks to more than {limit >> 20:,} MiB; unpack it and split it"
        raise InputError([Problem(str(path), text)])
    return unpacked


def sha256(path: Path) -> str:
    """Compute the hex SHA-256 digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
