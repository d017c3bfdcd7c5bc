"""Principles that other tools keep, as principle files: byte for byte, whatever their spelling.

Known shapes: an object of named entries, or a list of entries, each with a critique and a revision request (the paper's own prompt
files, the JSON form of llm-swarm under ``constitutions``); a list of questions that compare two answers; and tables with a column for
each text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cai.constitution.few_shot import FewShotExample
from cai.data.tables import read_table
from cai.errors import InputError, Problem
from cai.files import StrPath, read_utf8, strict_json, write_text

NAMES = {
    "critique": ("critique", "critic", "prompt", "critique_request"),
    "revise": ("revise", "revision", "edit_request", "revision_request"),
    "compare": ("compare", "comparison", "question", "principle"),
}
"""What the three texts of a principle are called elsewhere."""


class ImportedPrinciple(NamedTuple):
    """One principle as it was found."""

    name: str
    texts: dict[str, str]  # of critique, revise, compare, those that are there
    weight: float | None = None


def read_principles(path: StrPath) -> list[ImportedPrinciple]:
    """The principles of a file of another tool, in its order.

    Raises:
        InputError: naming each entry that holds no text of a principle, or a text that a principle file cannot keep as it is.
    """
    path, found, problems = Path(path), [], []
    for number, (place, name, entry) in enumerate(_entries(path), start=1):
        texts = {"compare": entry} if isinstance(entry, str) else _texts(entry)
        weight = entry.get("weight") if isinstance(entry, Mapping) else None
        if not texts:
            problems.append(
                Problem(
                    place,
                    f"holds no text of a principle; known names are {', '.join(n for names in NAMES.values() for n in names)}",
                )
            )
        problems += [
            Problem(
                place,
                f"{use} begins or ends with a blank, which a principle file would lose; take it away",
            )
            for use, t in texts.items()
            if t != t.strip()
        ]
        found.append(
            ImportedPrinciple(
                _slug(name) or f"{number:02}",
                texts,
                None if weight in (None, "") else float(str(weight)),
            )
        )
    if problems or not found:
        raise InputError(problems or [Problem(str(path), "holds no principle")])
    return found


def write_principles(
    found: list[ImportedPrinciple],
    theme: str,
    folder: StrPath,
    title: str,
    few_shot_turns: Sequence[FewShotExample] = (),
) -> Path:
    """Write one file per principle and a constitution that draws from them; returns the constitution's path.

    Worked examples become its ``few_shot``. One whose requests are no principle's gets a principle of its own, which is not drawn.

    Raises:
        InputError: if one of the files is there already.
    """
    folder, drawn = Path(folder), len(found)
    found, few_shot = [*found], []
    for number, example in enumerate(few_shot_turns, start=1):
        asked = {"critique": example.critique_request, "revise": example.revision_request}
        name = next((b.name for b in found if asked.items() <= b.texts.items()), "")
        if not name:
            name = f"shot-{number:02}"
            found.append(ImportedPrinciple(name, asked))
        few_shot.append(
            {
                "principle": f"{theme}/{name}",
                "prompt": example.prompt,
                "answer": example.answer,
                "critique": example.critique,
                "revision": example.revision,
            }
        )
    places = [folder / "principles" / theme / f"{imported.name}.yaml" for imported in found]
    constitution = folder / "constitution" / f"{theme}.yaml"
    if there := [path for path in [*places, constitution] if path.exists()]:
        raise InputError(
            [
                Problem(str(path), "is there already; choose another --theme or move it away")
                for path in there
            ]
        )
    for path, imported in zip(places, found, strict=True):
        write_text(path, _yaml({"title": f"{theme} {imported.name}", **imported.texts}))
    uses: dict[str, Any] = {}
    for use, needed in (("revise", {"critique", "revise"}), ("judge", {"compare"})):
        ids = [f"{theme}/{b.name}" for b in found[:drawn] if needed <= b.texts.keys()]
        weights = {
            f"{theme}/{b.name}": b.weight
            for b in found
            if b.weight is not None and needed <= b.texts.keys()
        }
        if ids:
            uses[use] = {"principles": ids} | ({"weights": weights} if weights else {})
    write_text(
        constitution, _yaml({"title": title, **uses} | ({"few_shot": few_shot} if few_shot else {}))
    )
    return constitution


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    """Place, name and content of each entry."""
    if path.suffix.lower() != ".json":
        for number, (place, row) in enumerate(read_table(path), start=1):
            yield place, str(row.get("name") or row.get("id") or row.get("title") or number), row
        return
    try:
        value = strict_json(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(str(path), f"is no JSON: {error}")]) from None
    if isinstance(value, dict) and isinstance(value.get("constitutions"), list):
        value = value["constitutions"]
    named = (
        value.items()
        if isinstance(value, dict)
        else [(f"{i:02}", entry) for i, entry in enumerate(value, start=1)]
    )
    for name, entry in named:
        yield f"{path}: {name}", str(name), entry


def _texts(entry: Any) -> dict[str, str]:
    if not isinstance(entry, Mapping):
        return {}
    found = {}
    for use, names in NAMES.items():
        value = next((entry[name] for name in names if entry.get(name)), None)
        if (
            isinstance(value, list) and len(value) == 1
        ):  # the paper's files keep each text in a list of one
            value = value[0]
        if isinstance(value, str):
            found[use] = value
    return found


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())[:60]


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
