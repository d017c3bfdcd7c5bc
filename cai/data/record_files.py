"""Records in files of the user's choice: JSON Lines, or Parquet if the name ends so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from cai.data.export import write_parquet
from cai.data.tables import Row, read_table
from cai.errors import InputError, Problem
from cai.files import write_records
from cai.records import Record

PARQUET = ".parquet"


def write_record_file(path: Path, records: Iterable[Record]) -> None:
    """Write records, completely or not at all.

    In Parquet, whose columns have one type each, the evidence of a judgment is JSON text.

    Args:
        path: The file; Parquet if its name ends in ``.parquet``, otherwise JSON Lines.
        records: The records.

    Raises:
        LimitReached: If the file cannot be written.
    """
    if path.suffix == PARQUET:
        write_parquet((_typed(record.model_dump(mode="json")) for record in records), path)
    else:
        write_records(path, records)


def check_record_file(path: Path, kind: type[Record]) -> None:
    """Refuse to replace a file that does not hold records of a kind.

    Args:
        path: The file that is about to be written.
        kind: The kind of its records.

    Raises:
        InputError: If the file exists and holds something else.
    """
    if not path.exists():
        return
    try:
        for _, row in islice(read_table(path), 1):
            kind.model_validate(_untyped(row))
    except (InputError, ValueError):  # pydantic's error is a ValueError
        text = "exists and holds other things than the records of this command; name another --out"
        raise InputError([Problem(str(path), text)]) from None


def _typed(row: Row) -> Row:
    for judgment in row.get("judgments", ()):
        judgment["evidence"] = json.dumps(judgment["evidence"])
    return row


def _untyped(row: Row) -> dict[str, Any]:
    for judgment in row.get("judgments") or ():
        if isinstance(judgment.get("evidence"), str):
            judgment["evidence"] = json.loads(judgment["evidence"])
    return row
