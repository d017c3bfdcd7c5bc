"""Turn the principles of other tools into principle files, byte for byte.

Known shapes: an object of named entries or a list of entries, each with a critique and a revision
request (the paper's prompt files; llm-swarm's JSON has them under ``constitutions``); a list of
questions that compare two answers; and tables with a column for each text.
"""

from __future__ import annotations

import math
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
"""The names that other tools have for the three texts of a principle."""
MAX_NAME = 60
"""Maximum number of characters of an imported principle's name."""


class ImportedPrinciple(NamedTuple):
    """A principle of another tool.

    Attributes:
        name: The name for its file.
        texts: Those of ``critique``, ``revise`` and ``compare`` that it has.
        weight: Its weight, if it has one.
    """

    name: str
    texts: dict[str, str]
    weight: float | None = None


class _Entry(NamedTuple):
    """A principle as it is in the file: its place, its name and its content."""

    place: str
    name: str
    content: Any


def read_principles(path: StrPath) -> list[ImportedPrinciple]:
    """Read the principles of another tool's file, in its order.

    Args:
        path: A ``.json`` file, or a table that :func:`cai.data.tables.read_table` reads.

    Raises:
        InputError: for each entry without a text of a principle, with a text that a principle file
            could not keep as it is, with an invalid weight, or with a name that another one has.
    """
    path = Path(path)
    principles: list[ImportedPrinciple] = []
    problems: list[Problem] = []
    for number, entry in enumerate(_entries(path), start=1):
        name = _slug(entry.name) or f"{number:02}"
        texts = _texts(entry.content)
        messages = [*_check_texts(texts), *_check_weight(entry.content)]
        if name in [principle.name for principle in principles]:
            messages.append(f"a second principle has the name {name!r}; rename one of them")
        problems += [Problem(entry.place, message) for message in messages]
        weight = None if messages else _weight(entry.content)
        principles.append(ImportedPrinciple(name, texts, weight))
    if problems:
        raise InputError(problems)
    if not principles:
        raise InputError([Problem(str(path), "contains no principle")])
    return principles


def write_principles(
    principles: Sequence[ImportedPrinciple],
    theme: str,
    folder: StrPath,
    title: str,
    few_shot: Sequence[FewShotExample] = (),
) -> Path:
    """Write one file per principle, and a constitution that draws from them.

    Args:
        principles: The principles.
        theme: The folder inside ``principles/``, and the name of the constitution.
        folder: The folder in which ``principles/`` and ``constitution/`` are.
        title: The title of the constitution.
        few_shot: Examples of critique and revision. One whose requests are those of no principle
            gets a principle of its own, which is never drawn.

    Returns:
        The path of the constitution.

    Raises:
        InputError: if one of the files exists.
    """
    folder = Path(folder)
    examples, extra = _few_shot(few_shot, principles, theme)
    files = {
        folder / "principles" / theme / f"{principle.name}.yaml": principle
        for principle in [*principles, *extra]
    }
    constitution = folder / "constitution" / f"{theme}.yaml"
    existing = [path for path in [*files, constitution] if path.exists()]
    if existing:
        text = "already exists; choose another --theme or move it away"
        raise InputError([Problem(str(path), text) for path in existing])
    for path, principle in files.items():
        write_text(path, _yaml({"title": f"{theme} {principle.name}", **principle.texts}))
    content: dict[str, Any] = {"title": title}
    for use, needed in (("revise", {"critique", "revise"}), ("judge", {"compare"})):
        usable = [principle for principle in principles if needed <= principle.texts.keys()]
        if usable:
            content[use] = _selection(usable, theme)
    if examples:
        content["few_shot"] = examples
    write_text(constitution, _yaml(content))
    return constitution


def _selection(principles: Sequence[ImportedPrinciple], theme: str) -> dict[str, Any]:
    """Return the section of a constitution that draws from some principles."""
    weights = {f"{theme}/{p.name}": p.weight for p in principles if p.weight is not None}
    selection: dict[str, Any] = {"principles": [f"{theme}/{p.name}" for p in principles]}
    return selection | ({"weights": weights} if weights else {})


def _few_shot(
    examples: Sequence[FewShotExample], principles: Sequence[ImportedPrinciple], theme: str
) -> tuple[list[dict[str, str]], list[ImportedPrinciple]]:
    """Return the ``few_shot`` of a constitution, and the principles that only explain examples."""
    rows = []
    extra: list[ImportedPrinciple] = []
    for number, example in enumerate(examples, start=1):
        requests = {"critique": example.critique_request, "revise": example.revision_request}
        known = [p.name for p in [*principles, *extra] if requests.items() <= p.texts.items()]
        if known:
            name = known[0]
        else:
            name = f"shot-{number:02}"
            extra.append(ImportedPrinciple(name, requests))
        rows.append(
            {
                "principle": f"{theme}/{name}",
                "prompt": example.prompt,
                "answer": example.answer,
                "critique": example.critique,
                "revision": example.revision,
            }
        )
    return rows, extra


def _entries(path: Path) -> Iterator[_Entry]:
    if path.suffix.lower() == ".json":
        yield from _json_entries(path)
        return
    for number, (place, row) in enumerate(read_table(path), start=1):
        name = row.get("name") or row.get("id") or row.get("title") or number
        yield _Entry(place, str(name), row)


def _json_entries(path: Path) -> Iterator[_Entry]:
    try:
        content = strict_json(read_utf8(path))
    except (ValueError, RecursionError) as error:
        raise InputError([Problem(str(path), f"invalid JSON: {error}")]) from None
    if isinstance(content, dict) and isinstance(content.get("constitutions"), list):
        content = content["constitutions"]
    if isinstance(content, dict):
        for name, value in content.items():
            yield _Entry(f"{path}: {name}", str(name), value)
    elif isinstance(content, list):
        for number, value in enumerate(content, start=1):
            yield _Entry(f"{path}: {number:02}", f"{number:02}", value)


def _texts(content: Any) -> dict[str, str]:
    """Return the texts of an entry: a plain text compares, an object names its texts."""
    if isinstance(content, str):
        return {"compare": content}
    if not isinstance(content, Mapping):
        return {}
    texts = {}
    for use, names in NAMES.items():
        value = next((content[name] for name in names if content.get(name)), None)
        # the paper's files have each text in a list of one
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str):
            texts[use] = value
    return texts


def _weight(content: Any) -> float | None:
    weight = content.get("weight") if isinstance(content, Mapping) else None
    return None if weight in (None, "") else float(str(weight))


def _check_weight(content: Any) -> Iterator[str]:
    try:
        weight = _weight(content)
    except ValueError:
        yield f"weight must be a number, not {content['weight']!r}"
        return
    if weight is not None and not 0 <= weight < math.inf:
        yield f"weight must be a finite number of at least 0, not {weight}"


def _check_texts(texts: Mapping[str, str]) -> Iterator[str]:
    if not texts:
        names = ", ".join(name for names in NAMES.values() for name in names)
        yield f"has no text of a principle; known names are {names}"
    for use, text in texts.items():
        if text != text.strip():
            yield f"{use} begins or ends with a blank, which a principle file would lose; remove it"


def _slug(name: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    return "-".join(words)[:MAX_NAME]


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
