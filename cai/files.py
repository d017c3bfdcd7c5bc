"""Files written whole or not at all, and JSON lines read strictly."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from cai import distributed
from cai.cleaning import clean_json
from cai.errors import InputError, LimitReached, Problem
from cai.records import Record

R = TypeVar("R", bound=Record)
StrPath = str | os.PathLike[str]
_GZIP = b"\x1f\x8b"


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file by way of a temporary one in the same folder and a rename; of several processes the main one does.

    Raises:
        LimitReached: if the disk is full or the folder cannot be written; what was there before stays.
    """
    _publish(path, [text])


def _publish(path: Path, parts: Iterable[str]) -> None:
    if not distributed.is_main():
        for _ in parts:  # their making may be work that all processes share
            pass
        return
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            for part in parts:
                with disk_errors(path):
                    file.write(part)
            with disk_errors(path):
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses, as :class:`LimitReached` with the name of the file."""
    try:
        yield
    except OSError as error:
        raise LimitReached(f"{path}: cannot be written: {error.strerror}") from None


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON; NaN is refused rather than written."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, in order, as they come: they need never be in memory together."""
    _publish(path, (record.model_dump_json() + "\n" for record in records))


def stream_records(path: Path, kind: type[R]) -> Iterator[R]:
    """The records of a file that ``write_records`` wrote, one at a time."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise InputError(
                    [Problem(f"{path}:{number}:1", str(error.errors()[0]["msg"]))]
                ) from None


def read_records(path: Path, kind: type[R]) -> list[R]:
    """Read the records of a file that ``write_records`` wrote."""
    found, problems = [], []
    for number, line in lines(path):
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError as error:
            problems.append(Problem(f"{path}:{number}:1", str(error.errors()[0]["msg"])))
    if problems:
        raise InputError(problems)
    return found


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers.

    Raises:
        InputError: naming each line that is no JSON object, after all others were given out.
    """
    problems = []
    for number, line in lines(path):
        try:
            row = strict_json(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"{path}:{number}:1", f"is no JSON: {error}"))
            continue
        if not isinstance(row, dict):
            problems.append(
                Problem(
                    f"{path}:{number}:1",
                    f"is {type(row).__name__}, not an object with named fields",
                )
            )
            continue
        yield number, row
    if problems:
        raise InputError(problems)


def strict_json(text: str) -> Any:
    """What a JSON text holds; a key that stands twice in one object is refused.

    Raises:
        ValueError: with what is wrong, or RecursionError where it is nested too deeply.
    """
    value = json.loads(text, object_pairs_hook=_each_once)
    # an escape such as \ud800 in a JSON text is a lone surrogate, which no record can hold
    return clean_json(value) if "\\u" in text else value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object"
        )
    return found


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The non-blank lines of a UTF-8 file, numbered from 1; only a line feed ends a line."""
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def read_utf8(path: Path) -> str:
    """The text of a UTF-8 file, packed by gzip or not, without a byte order mark."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data.startswith(_GZIP) else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError([Problem(str(path), f"is a damaged gzip file: {error}")]) from None
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        raise InputError(
            [Problem(str(path), f"is not UTF-8 (byte {error.start}); save it as UTF-8")]
        ) from None


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
