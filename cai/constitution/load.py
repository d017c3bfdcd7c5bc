"""Find and load constitutions and the principles they name.

A constitution file stands in a folder ``constitution/`` and takes its principles from the folder ``principles/`` beside
it; nothing outside that project is ever read. A bare name is looked up in the working folder, then among the shipped ones.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cai import shipped
from cai.constitution.prose import load_prose
from cai.constitution.schema import Constitution, ConstitutionFile, Principle, PrincipleFile, Use
from cai.documents import Document, load, validated
from cai.errors import InputError, Problem, did_you_mean

USES: tuple[Use, ...] = ("revise", "judge")


def load_constitution(spec: str | os.PathLike[str]) -> Constitution:
    """Load a constitution by path (``.yaml`` or ``.md``) or by name (``reference``).

    Raises:
        InputError: with all problems of the constitution and of its principles.
    """
    path = find_constitution(spec)
    if path.suffix == ".md":
        return load_prose(path)
    return _Loader(path).constitution()


def find_constitution(spec: str | os.PathLike[str]) -> Path:
    """The file that a path or a name means."""
    path = Path(spec)
    if path.suffix in (".yaml", ".yml", ".md"):
        if path.is_file():
            return path
        raise InputError([Problem(str(path), "there is no such constitution file")])
    folders = [Path("constitution"), shipped.folder("constitution")]
    for folder in folders:
        for suffix in (".yaml", ".md"):
            if (found := folder / f"{spec}{suffix}").is_file():
                return found
    known = {file.stem for folder in folders if folder.is_dir() for file in folder.iterdir() if _is_constitution(file)}
    raise InputError(
        [Problem(str(spec), f"is neither a file nor a constitution; there are {', '.join(sorted(known))}{did_you_mean(str(spec), known)}")]
    )


def _is_constitution(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") or (path.suffix == ".md" and path.name != "README.md")


def load_principle(path: Path, root: Path) -> Principle:
    """Load one principle file; its id is its path below ``root`` without the suffix."""
    parsed = validated(PrincipleFile, load(path))
    name = path.relative_to(root).with_suffix("").as_posix()
    return Principle(id=name, **parsed.model_dump(exclude={"notes"}))


class _Loader:
    """Loads one constitution file with all it includes, collecting problems on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.resolve().parent.parent
        self.problems: list[Problem] = []
        self.principles: dict[str, Principle] = {}
        self.weights: dict[Use, dict[str, float]] = {use: {} for use in USES}
        self.ids = sorted(p.relative_to(self.folder).with_suffix("").as_posix() for p in self.folder.rglob("*.yaml") if self._inside(p))

    @property
    def folder(self) -> Path:
        return self.root / "principles"

    def constitution(self) -> Constitution:
        file = self._read(self.path, ())
        if self.problems or file is None:
            raise InputError(self.problems)
        used = {name for chosen in self.weights.values() for name in chosen} | {shot.principle for shot in file.few_shot}
        return Constitution(
            name=self.path.stem, title=file.title, principles={name: self.principles[name] for name in sorted(used)}, weights=self.weights,
            few_shot=file.few_shot, priorities=file.priorities,
        )  # fmt: skip

    def _read(self, path: Path, above: tuple[Path, ...]) -> ConstitutionFile | None:
        """Read one file after what it includes, so that its own lines have the last word."""
        try:
            document = load(path)
            file = validated(ConstitutionFile, document)
        except InputError as error:
            self.problems += error.problems
            return None
        for i, name in enumerate(file.include):
            if (target := self._included(name, document.where(("include", i)), (*above, path.resolve()))) is not None:
                self._read(target, (*above, path.resolve()))
        for use in USES:
            self._select(document, file, use)
        for i, shot in enumerate(file.few_shot):
            if shot.principle not in self.ids:
                self._unknown(document, ("few_shot", i, "principle"), shot.principle)
            else:
                self._take([shot.principle])
        return file

    def _included(self, name: str, where: str, above: tuple[Path, ...]) -> Path | None:
        """The file of an include, which must lie inside the project and not include itself."""
        if any(mark in name for mark in ("\0", "\\", "://", "~")) or Path(name).is_absolute() or ".." in Path(name).parts:
            self.problems.append(Problem(where, f"{name!r} must be the name of a constitution in the same folder"))
            return None
        target = self.path.parent / (name if name.endswith(".yaml") else f"{name}.yaml")
        if not target.is_file() or not self._inside(target):
            known = [p.stem for p in self.path.parent.glob("*.yaml")]
            self.problems.append(Problem(where, f"there is no constitution {name!r} to include{did_you_mean(name, known)}"))
            return None
        if target.resolve() in above:
            self.problems.append(Problem(where, f"{name!r} includes itself"))
            return None
        return target

    def _inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root)

    def _select(self, document: Document, file: ConstitutionFile, use: Use) -> None:
        selection: Any = getattr(file, use)
        chosen = self.weights[use]
        for key, act in (("principles", self._add), ("exclude", self._drop)):
            for i, pattern in enumerate(getattr(selection, key)):
                matched = fnmatch.filter(self.ids if key == "principles" else list(chosen), pattern)
                if not matched:
                    self._unknown(document, (use, key, i), pattern)
                act(chosen, matched)
        for pattern, weight in selection.weights.items():
            matched = fnmatch.filter(list(chosen), pattern)
            if not matched:
                self._unknown(document, (use, "weights", pattern), pattern)
            chosen.update(dict.fromkeys(matched, weight))

    def _add(self, chosen: dict[str, float], names: Iterable[str]) -> None:
        self._take(names)
        for name in names:
            chosen.setdefault(name, 1.0)

    @staticmethod
    def _drop(chosen: dict[str, float], names: Iterable[str]) -> None:
        for name in names:
            chosen.pop(name, None)

    def _take(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.principles:
                continue
            try:
                self.principles[name] = load_principle(self.folder / f"{name}.yaml", self.folder)
            except InputError as error:
                self.problems += error.problems

    def _unknown(self, document: Document, loc: tuple[str | int, ...], pattern: str) -> None:
        self.problems.append(Problem(document.where(loc), f"no principle is called {pattern!r}{did_you_mean(pattern, self.ids)}"))
