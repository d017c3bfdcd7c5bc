"""Write records in the formats that other tools read, with a dataset card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from cai.data.tables import Row
from cai.data.transcripts import transcript
from cai.errors import LimitReached
from cai.files import StrPath, write_text
from cai.records import Message, Preference, Prompt

Shape = Literal["trl", "transcripts", "parquet"]
MADE_WITH = "Made with [cai](https://arxiv.org/abs/2212.08073)"
"""What the card of every dataset says, by which an earlier export is known."""
TIE = 1e-6
"""A label this near to one half prefers neither answer, so no hard label can be made of it."""


def preference_rows(preferences: Iterable[Preference], left_out: Counter[str]) -> Iterator[Row]:
    """Make TRL's conversational preference rows, with the label and its origin beside them.

    Args:
        preferences: Labels; the likelier answer becomes ``chosen``.
        left_out: Counts, by reason, the labels that give no row.
    """
    for preference in preferences:
        if preference.p_first is None:
            left_out[preference.status] += 1
            continue
        if abs(preference.p_first - 0.5) < TIE:
            left_out["tie"] += 1
            continue
        best = preference if preference.p_first > 0.5 else preference.swap()
        yield {
            "prompt": _messages(best.comparison.prompt.messages),
            "chosen": _answer(best.comparison.first),
            "rejected": _answer(best.comparison.second),
            "p_chosen": best.p_first,
            "source": best.source,
            "principles": [judgment.principle for judgment in best.judgments],
            "judge": best.judge,
            "id": best.id,
        }


def transcript_rows(preferences: Iterable[Preference], left_out: Counter[str]) -> Iterator[Row]:
    """Make HH-RLHF rows, with ``chosen`` and ``rejected`` as whole transcripts."""
    for row in preference_rows(preferences, left_out):
        turns = [Message(**turn) for turn in row["prompt"]]
        if any(turn.role == "system" for turn in turns):
            left_out["system turn"] += 1  # the format has no system turns
            continue
        yield {name: transcript(turns, row[name][0]["content"]) for name in ("chosen", "rejected")}


def completion_rows(rows: Iterable[tuple[Prompt, str]]) -> Iterator[Row]:
    """Make TRL's conversational prompt-completion rows of what the supervised stage trains on."""
    for prompt, answer in rows:
        yield {"prompt": _messages(prompt.messages), "completion": _answer(answer)}


def write_rows(rows: Sequence[Row], folder: StrPath, name: str, shape: Shape) -> Path:
    """Write rows as ``name.jsonl`` or ``name.parquet``, completely or not at all."""
    folder = Path(folder)
    if shape != "parquet":
        path = folder / f"{name}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        write_text(path, "".join(lines))
        return path
    path = folder / f"{name}.parquet"
    write_parquet(rows, path)
    return path


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a Parquet file, completely or not at all.

    Raises:
        LimitReached: If the file cannot be written.
    """
    from pyarrow import lib, parquet  # comes with datasets

    table: Any = lib.Table.from_pylist(list(rows))
    unfinished = path.with_suffix(".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, unfinished)  # type: ignore[no-untyped-call]
        unfinished.replace(path)
    except OSError as error:
        raise LimitReached(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def card(title: str, files: dict[str, Path], facts: dict[str, Any]) -> str:
    """Write a dataset card: the files for ``load_dataset``, and a table of how rows were made."""
    configs = "".join(
        f"- config_name: {name}\n  data_files: {path.name}\n" for name, path in files.items()
    )
    table = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    names = "\n".join(
        f'    load_dataset("{path.parent.name}", "{name}")' for name, path in files.items()
    )
    return f"""---
tags: [constitutional-ai, rlaif, preference]
configs:
{configs}---

# {title}

{MADE_WITH} from a written constitution.

{names}

| | |
|---|---|
{table}"""


def _messages(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
