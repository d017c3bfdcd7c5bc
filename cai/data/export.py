"""Records out, in the shapes other tools read, with a card that says where the labels came from."""

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
TIE = 1e-6
"""A label nearer to one half than this chooses neither answer, and no hard label can be made of it."""


def preference_rows(preferences: Iterable[Preference], left_out: Counter[str]) -> Iterator[Row]:
    """TRL's explicit, conversational preference rows, the likelier answer as ``chosen``, with the label and its origin beside them.

    ``left_out`` counts by reason what gives no row.
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
    """HH-RLHF rows, ``chosen`` and ``rejected`` as whole transcripts."""
    for row in preference_rows(preferences, left_out):
        turns = [Message(**turn) for turn in row["prompt"]]
        if any(turn.role == "system" for turn in turns):
            left_out["system turn"] += 1  # the format has no place for it
            continue
        yield {name: transcript(turns, row[name][0]["content"]) for name in ("chosen", "rejected")}


def completion_rows(rows: Iterable[tuple[Prompt, str]]) -> Iterator[Row]:
    """TRL's conversational prompt-completion rows of what the supervised stage trains on."""
    for prompt, answer in rows:
        yield {"prompt": _messages(prompt.messages), "completion": _answer(answer)}


def write_rows(rows: Sequence[Row], folder: StrPath, name: str, shape: Shape) -> Path:
    """Write rows as ``name.jsonl``, or as ``name.parquet``; whole or not at all."""
    folder = Path(folder)
    if shape != "parquet":
        path = folder / f"{name}.jsonl"
        write_text(
            path,
            "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows),
        )
        return path
    from datasets.arrow_dataset import Dataset

    path = folder / f"{name}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    try:
        Dataset.from_list(list(rows)).to_parquet(str(unfinished))
        unfinished.replace(path)
    except OSError as error:
        raise LimitReached(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def card(title: str, files: dict[str, Path], facts: dict[str, Any]) -> str:
    """A dataset card: which file holds what, for ``load_dataset``, and a table of facts about how the rows were made."""
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

Made with [cai](https://arxiv.org/abs/2212.08073) from a written constitution.

{names}

| | |
|---|---|
{table}"""


def _messages(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
