"""Tell the kinds of user files apart: principles, constitutions, run files, suites ..."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cai.config import RunConfig, TrainingConfig
from cai.config.suite import Suite
from cai.constitution.schema import ConstitutionFile, PrincipleFile
from cai.documents import load
from cai.errors import InputError, Problem

Kind = Literal["principle", "constitution", "run", "training", "suite"]
PRINCIPLE: Kind = "principle"
CONSTITUTION: Kind = "constitution"
RUN: Kind = "run"
TRAINING: Kind = "training"
SUITE: Kind = "suite"

KIND_NAMES: dict[Kind, str] = {
    PRINCIPLE: "a principle",
    CONSTITUTION: "a constitution",
    RUN: "a run file",
    TRAINING: "a training file",
    SUITE: "a suite",
}
"""The kinds as messages name them."""
_KEYS: dict[Kind, Collection[str]] = {
    PRINCIPLE: PrincipleFile.model_fields,
    CONSTITUTION: ConstitutionFile.model_fields,
    RUN: RunConfig.model_fields,
    TRAINING: TrainingConfig.model_fields,
    SUITE: Suite.model_fields,
}
_TYPICAL_KEYS: dict[Kind, str] = {
    PRINCIPLE: "critique, revise, compare",
    CONSTITUTION: "include, revise, judge",
    RUN: "constitution, prompts",
    TRAINING: "out, data",
    SUITE: "prompts, grader, metric",
}
_SIMILAR = 0.75
"""Similarity from which a key counts as a misspelling of a known one."""
_SUFFIXES = (".yaml", ".yml", ".md")


class Files(NamedTuple):
    """The files below some paths.

    Attributes:
        by_kind: The files of each kind.
        problems: What is wrong with the paths, and with files that cannot be read.
        unknown: Files that cannot be read, and files of no kind that were named themselves. Each
            has a problem.
        skipped: Files of no kind inside folders.
    """

    by_kind: dict[Kind, list[Path]]
    problems: list[Problem]
    unknown: list[Path]
    skipped: list[Path]


def find_files(paths: Sequence[Path]) -> Files:
    """Sort files and the contents of folders by kind, each file once.

    Args:
        paths: Files and folders. A file of no kind is a problem if it is named here; inside a
            folder it is skipped.
    """
    files = Files({kind: [] for kind in KIND_NAMES}, [], [], [])
    sorted_already: set[Path] = set()
    for path in paths:
        if not path.exists():
            files.problems.append(Problem(str(path), "there is no such file or folder"))
            continue
        for file in sorted(_in_folder(path)) if path.is_dir() else [path]:
            if file.resolve() not in sorted_already:
                sorted_already.add(file.resolve())
                _sort_in(file, files, named=file is path)
    return files


def kind_of_value(value: Any) -> Kind | None:
    """Return the kind whose keys a document has most of, misspelled ones included.

    Args:
        value: The content of a YAML file.

    Returns:
        The kind; None if no kind, or more than one, fits best.
    """
    if not isinstance(value, Mapping):
        return None
    scores = {kind: _count_known(value, keys) for kind, keys in _KEYS.items()}
    scores[PRINCIPLE] += isinstance(value.get("revise"), str)
    scores[CONSTITUTION] += any(_draws_principles(value.get(use)) for use in ("revise", "judge"))
    best = max(scores.values())
    kinds = [kind for kind, score in scores.items() if score == best]
    return kinds[0] if best and len(kinds) == 1 else None


def _in_folder(folder: Path) -> Iterator[Path]:
    try:
        inside = list(folder.iterdir())
    except OSError as error:
        raise InputError([Problem(str(folder), f"cannot be read: {error.strerror}")]) from None
    for path in inside:
        if path.name.startswith(".") or path.name == "README.md":
            continue
        if path.is_dir():
            if not (path / "constitution.lock.yaml").exists():  # what a run wrote is not edited
                yield from _in_folder(path)
        elif path.suffix in (".yaml", ".yml") or (
            path.suffix == ".md" and _in_constitution_folder(path)
        ):
            yield path


def _in_constitution_folder(path: Path) -> bool:
    return path.absolute().parent.name == "constitution"


def _sort_in(file: Path, files: Files, *, named: bool) -> None:
    try:
        kind = _kind_of(file)
    except InputError as error:
        files.problems.extend(error.problems)
        files.unknown.append(file)
        return
    if kind is not None:
        files.by_kind[kind].append(file)
    elif named:
        files.problems.append(Problem(str(file), _unknown_kind(file)))
        files.unknown.append(file)
    else:
        files.skipped.append(file)


def _kind_of(file: Path) -> Kind | None:
    """Tell the kind by the file's folder if that decides it, else by its keys."""
    if file.suffix == ".md":
        return CONSTITUTION
    if file.suffix not in _SUFFIXES:
        return None
    if _in_constitution_folder(file):
        return CONSTITUTION
    below_principles = "principles" in [parent.name for parent in file.absolute().parents]
    try:
        kind = kind_of_value(load(file).value)
    except InputError:
        if not below_principles:
            raise
        return PRINCIPLE
    return PRINCIPLE if below_principles and kind not in (RUN, TRAINING, SUITE) else kind


def _unknown_kind(file: Path) -> str:
    if file.suffix not in _SUFFIXES:
        return "is not a YAML file (.yaml, .yml) or a constitution in Markdown (.md)"
    kinds = "; ".join(
        f"{KIND_NAMES[kind]} has keys such as {keys}" for kind, keys in _TYPICAL_KEYS.items()
    )
    return f"is not a file that cai knows: {kinds}"


def _count_known(keys: Iterable[str], known: Collection[str]) -> int:
    """Count the keys that are known or misspelled."""
    return sum(bool(difflib.get_close_matches(key, known, n=1, cutoff=_SIMILAR)) for key in keys)


def _draws_principles(selection: Any) -> bool:
    return isinstance(selection, Mapping) and isinstance(selection.get("principles"), list)
