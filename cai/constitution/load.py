"""Find and load constitutions and the principles they name.

A constitution is a file in a folder ``constitution/``; it draws its principles from the folder ``principles/`` beside
that. Nothing outside this project is ever read. See :func:`find_constitution` for where a name is looked up.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cai import shipped
from cai.constitution.kinds import CONSTITUTION, FAMILIAR, kind_of_value
from cai.constitution.prose import load_prose
from cai.constitution.schema import Constitution, ConstitutionFile, Principle, PrincipleFile, Use
from cai.documents import Document, load, validated
from cai.errors import InputError, Problem, did_you_mean

USES: tuple[Use, ...] = ("revise", "judge")
YAML = (".yaml", ".yml")
SUFFIXES = (*YAML, ".md")
FAR = 2
"""Folders up from the working folder beyond which a path is shown absolute."""


def load_constitution(
    spec: str | os.PathLike[str], base: str | os.PathLike[str] | None = None
) -> Constitution:
    """Load a constitution by path (``.yaml`` or ``.md``) or by name (``reference``).

    Args:
        spec: The path or the name.
        base: A folder to look in before the working folder, such as that of a run file.

    Raises:
        InputError: with all problems of the constitution and of its principles.
    """
    path = find_constitution(spec, base)
    if path.suffix == ".md":
        return load_prose(path)
    return Loader(path).constitution()


def find_constitution(
    spec: str | os.PathLike[str], base: str | os.PathLike[str] | None = None
) -> Path:
    """The file that a path or a name means.

    A path is relative to ``base``, else to the working folder. A name is looked up in the folder
    ``constitution/`` of ``base`` and of its parents, then of the working folder, then among the
    constitutions that ship with the package.
    """
    path = Path(spec)
    if path.suffix in SUFFIXES:
        places = list(dict.fromkeys([*([Path(base) / path] if base is not None else []), path]))
        if found := next((place for place in places if place.is_file()), None):
            return found if found == path else nearby(found)
        looked = " or ".join(str(place if place == path else nearby(place)) for place in places)
        raise InputError([Problem(str(spec), f"there is no constitution file {looked}")])
    folders = _constitution_folders(base)
    for folder in folders:
        for suffix in SUFFIXES:
            if (file := folder / f"{spec}{suffix}").is_file():
                return nearby(file)
    raise InputError([Problem(str(spec), _not_found(path, folders))])


def _constitution_folders(base: str | os.PathLike[str] | None) -> list[Path]:
    start = Path(base).resolve() if base is not None else None
    above = [start, *start.parents] if start else []
    folders = [folder / "constitution" for folder in [*above, Path.cwd()]]
    folders = [folder for folder in folders if folder.is_dir()]
    return list(dict.fromkeys([*folders, shipped.folder("constitution")]))


def _not_found(path: Path, folders: Iterable[Path]) -> str:
    if path.is_file():
        return f"a constitution is a file that ends in {', '.join(SUFFIXES)}"
    known = sorted({file.stem for folder in folders for file in _constitutions_in(folder)})
    looked = ", ".join(map(str, map(nearby, folders)))
    return (
        f"no constitution has this name{did_you_mean(str(path), known)}; "
        f"there are {', '.join(known)} (looked in {looked})"
    )


def _constitutions_in(folder: Path) -> Iterator[Path]:
    files = (file for file in folder.iterdir() if file.suffix in SUFFIXES)
    return (file for file in files if file.name != "README.md")


def nearby(path: Path) -> Path:
    """A path as it is best shown: from the working folder unless it is far from it."""
    relative = Path(os.path.relpath(path))
    return relative if relative.parts.count("..") <= FAR else path.absolute()


def load_principle(path: Path, root: Path) -> Principle:
    """Load one principle file; its id is its path below ``root`` without the suffix."""
    parsed = validated(PrincipleFile, load(path))
    name = path.relative_to(root).with_suffix("").as_posix()
    return Principle(id=name, **parsed.model_dump(exclude={"notes"}))


class Loader:
    """Reads one constitution file with all it includes, and collects the problems of these files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        above = path.parent
        self.root = above / ".." if above.name in ("", "..") else above.parent
        self.folder = self.root / "principles"
        self.files = self._principle_files()
        self.problems: list[Problem] = []
        self.weights: dict[Use, dict[str, float]] = {use: {} for use in USES}
        self.file = self._read(path, ())

    @property
    def drawn(self) -> list[str]:
        """The ids of all principles that the constitution uses, also in its worked examples."""
        few_shot = [shot.principle for shot in self.file.few_shot] if self.file else []
        used = {name for chosen in self.weights.values() for name in chosen}
        return sorted(name for name in used | set(few_shot) if name in self.files)

    def constitution(self) -> Constitution:
        """The constitution with its principles.

        Raises:
            InputError: with all problems of the constitution and of the principles it uses.
        """
        problems, principles = list(self.problems), {}
        for name in self.drawn:
            try:
                principles[name] = load_principle(self.files[name], self.folder)
            except InputError as error:
                problems += error.problems
        if problems or self.file is None:
            raise InputError(problems)
        return Constitution(
            name=self.path.stem,
            title=self.file.title,
            principles=principles,
            weights=self.weights,
            few_shot=self.file.few_shot,
        )

    def _principle_files(self) -> dict[str, Path]:
        files = [p for p in self.folder.rglob("*") if p.suffix in YAML and self._inside(p)]
        by_id = {p.relative_to(self.folder).with_suffix("").as_posix(): p for p in files}
        return dict(sorted(by_id.items()))

    def _read(self, path: Path, above: tuple[Path, ...]) -> ConstitutionFile | None:
        """Read one file after what it includes, so that its own lines have the last word."""
        try:
            document = load(path)
            self._refuse_other_kinds(document)
            file = validated(ConstitutionFile, document)
        except InputError as error:
            self.problems += error.problems
            return None
        above = (*above, path.resolve())
        for i, name in enumerate(file.include):
            target = self._included(name, document.where(("include", i)), above)
            if target is not None:
                self._read(target, above)
        for use in USES:
            self._select(document, file, use)
        for i, shot in enumerate(file.few_shot):
            if shot.principle not in self.files:
                self._unknown(document, ("few_shot", i, "principle"), shot.principle)
        return file

    @staticmethod
    def _refuse_other_kinds(document: Document) -> None:
        kind = kind_of_value(document.value)
        if kind not in (None, CONSTITUTION):
            raise InputError(
                [Problem(document.where(), f"this is not a constitution but {FAMILIAR[kind]}")]
            )

    def _included(self, name: str, where: str, above: tuple[Path, ...]) -> Path | None:
        """The file of an include, which must lie inside the project and not include itself."""
        outside = any(mark in name for mark in ("\0", "\\", "://", "~"))
        if outside or Path(name).is_absolute() or ".." in Path(name).parts:
            text = f"{name!r} must be the name of a constitution in the same folder"
            self.problems.append(Problem(where, text))
            return None
        target = self.path.parent / (name if name.endswith(".yaml") else f"{name}.yaml")
        if not target.is_file() or not self._inside(target):
            known = [p.stem for p in self.path.parent.glob("*.yaml")]
            text = f"there is no constitution {name!r} to include{did_you_mean(name, known)}"
            self.problems.append(Problem(where, text))
            return None
        if target.resolve() in above:
            self.problems.append(Problem(where, f"{name!r} includes itself"))
            return None
        return target

    def _inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def _select(self, document: Document, file: ConstitutionFile, use: Use) -> None:
        selection: Any = getattr(file, use)
        chosen = self.weights[use]
        for i, pattern in enumerate(selection.principles):
            for name in self._matching(self.files, pattern, document, (use, "principles", i)):
                chosen.setdefault(name, 1.0)
        for i, pattern in enumerate(selection.exclude):
            for name in self._matching(chosen, pattern, document, (use, "exclude", i)):
                del chosen[name]
        for pattern, weight in selection.weights.items():
            matched = self._matching(chosen, pattern, document, (use, "weights", pattern))
            chosen.update(dict.fromkeys(matched, weight))

    def _matching(
        self, names: Iterable[str], pattern: str, document: Document, loc: tuple[str | int, ...]
    ) -> list[str]:
        matched = fnmatch.filter(list(names), pattern)
        if not matched:
            self._unknown(document, loc, pattern)
        return matched

    def _unknown(self, document: Document, loc: tuple[str | int, ...], pattern: str) -> None:
        text = f"no principle is called {pattern!r}{did_you_mean(pattern, self.files)}"
        self.problems.append(Problem(document.where(loc), text))
