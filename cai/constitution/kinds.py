"""What kind of file a user's YAML or Markdown file is: principle, constitution, run file or training file."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cai.config import RunConfig, TrainingConfig
from cai.constitution.schema import ConstitutionFile, PrincipleFile
from cai.documents import load
from cai.errors import InputError, Problem

Kind = Literal["principle", "constitution", "run", "training"]
PRINCIPLE: Kind = "principle"
CONSTITUTION: Kind = "constitution"
RUN: Kind = "run"
TRAINING: Kind = "training"

FAMILIAR: dict[Kind, str] = {
    PRINCIPLE: "a principle",
    CONSTITUTION: "a constitution",
    RUN: "a run file",
    TRAINING: "a training file",
}
_KEYS: dict[Kind, Collection[str]] = {
    PRINCIPLE: PrincipleFile.model_fields,
    CONSTITUTION: ConstitutionFile.model_fields,
    RUN: RunConfig.model_fields,
    TRAINING: TrainingConfig.model_fields,
}
_TELLING: dict[Kind, str] = {
    PRINCIPLE: "critique, revise, compare",
    CONSTITUTION: "include, revise, judge",
    RUN: "constitution, prompts",
    TRAINING: "out, data",
}
_CLOSE = 0.75
"""Similarity from which a key counts as a misspelt one."""
_SUFFIXES = (".yaml", ".yml", ".md")


class Files(NamedTuple):
    """The files below some paths, by kind."""

    by_kind: dict[Kind, list[Path]]
    problems: list[Problem]
    unknown: list[Path]
    """Named files of no kind, and files that cannot be parsed; each has a problem."""
    skipped: list[Path]
    """Files of no kind in folders."""


def find_files(paths: Sequence[Path]) -> Files:
    """Sort the files and the contents of the folders by kind, each file once.

    A file that is named itself and is of no kind is a problem; in a folder it is skipped.
    """
    found = Files({kind: [] for kind in FAMILIAR}, [], [], [])
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            found.problems.append(Problem(str(path), "there is no such file or folder"))
        for file in sorted(_in_folder(path)) if path.is_dir() else [path] * path.exists():
            if file.resolve() not in seen:
                seen.add(file.resolve())
                _sort_in(file, found, named=file is path)
    return found


def kind_of_value(value: Any) -> Kind | None:
    """The kind whose keys a document has most of, misspelt ones included; None where that is open."""
    if not isinstance(value, Mapping):
        return None
    scores = {kind: sum(_is_among(key, keys) for key in value) for kind, keys in _KEYS.items()}
    scores[PRINCIPLE] += isinstance(value.get("revise"), str)
    scores[CONSTITUTION] += any(_draws_principles(value.get(use)) for use in ("revise", "judge"))
    best = max(scores.values())
    kinds = [kind for kind, score in scores.items() if score == best]
    return kinds[0] if best and len(kinds) == 1 else None


def _in_folder(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "README.md":
            continue
        if path.is_dir():
            if not (path / "constitution.lock.yaml").exists():  # what a run wrote is not edited
                yield from _in_folder(path)
        elif path.suffix in (".yaml", ".yml") or (path.suffix == ".md" and _is_at_home(path)):
            yield path


def _is_at_home(path: Path) -> bool:
    return path.absolute().parent.name == "constitution"


def _sort_in(file: Path, found: Files, *, named: bool) -> None:
    try:
        kind = _kind_of(file)
    except InputError as error:
        found.problems.extend(error.problems)
        found.unknown.append(file)
        return
    if kind is not None:
        found.by_kind[kind].append(file)
    elif named:
        found.problems.append(Problem(str(file), _of_no_kind(file)))
        found.unknown.append(file)
    else:
        found.skipped.append(file)


def _kind_of(file: Path) -> Kind | None:
    """By the folder where that tells, else by the keys; in its folder a misspelt file is known too."""
    if file.suffix == ".md":
        return CONSTITUTION
    if file.suffix not in _SUFFIXES:
        return None
    if _is_at_home(file):
        return CONSTITUTION
    below_principles = "principles" in [parent.name for parent in file.absolute().parents]
    try:
        kind = kind_of_value(load(file).value)
    except InputError:
        if not below_principles:
            raise
        return PRINCIPLE
    return PRINCIPLE if below_principles and kind not in (RUN, TRAINING) else kind


def _of_no_kind(file: Path) -> str:
    if file.suffix not in _SUFFIXES:
        return "is not a YAML file (.yaml, .yml) or a constitution in Markdown (.md)"
    kinds = "; ".join(
        f"{FAMILIAR[kind]} has keys such as {keys}" for kind, keys in _TELLING.items()
    )
    return f"is not a file that cai knows: {kinds}"


def _is_among(key: str, known: Collection[str]) -> bool:
    return key in known or bool(difflib.get_close_matches(key, known, n=1, cutoff=_CLOSE))


def _draws_principles(selection: Any) -> bool:
    return isinstance(selection, Mapping) and isinstance(selection.get("principles"), list)
