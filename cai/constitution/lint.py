"""``cai check``: everything that can be said about principles and constitutions without a model, in one pass."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cai.constitution.kinds import CONSTITUTION, PRINCIPLE, find_files
from cai.constitution.load import Loader, load_principle, nearby
from cai.constitution.prose import load_prose
from cai.constitution.schema import SLOT_PATTERN, SLOTS, Principle
from cai.documents import load
from cai.errors import InputError, Problem, did_you_mean, in_order

LONG = 1_200
"""Characters above which a text is more than a model will hold in mind beside a conversation."""
NEAR = 0.9
"""Similarity from which two texts count as the same principle written twice."""
TEXTS = ("critique", "revise", "compare")


class Checked(NamedTuple):
    """What the linter looked at, and what it found."""

    problems: list[Problem]
    files: list[Path]


def check(paths: Sequence[Path]) -> Checked:
    """Lint the principles and constitutions of some files and folders; run files are left alone."""
    found = find_files(paths)
    linted = lint(found.by_kind[PRINCIPLE], found.by_kind[CONSTITUTION])
    return Checked(sorted({*found.problems, *linted.problems}, key=in_order), linted.files)


def lint(principles: Sequence[Path], constitutions: Sequence[Path]) -> Checked:
    """Lint principle files, constitution files, and the principles that these draw, each file once."""
    problems: list[Problem] = []
    wanted = {path.resolve(): path for path in principles}
    for path in constitutions:
        if path.suffix == ".md":
            problems += _problems(load_prose, path)
            continue
        loader = Loader(path)
        for name in loader.drawn:
            file = loader.files[name]
            wanted.setdefault(file.resolve(), nearby(file))
        problems += loader.problems or _check_constitution(loader)
    loaded: dict[Path, Principle] = {}
    for path in wanted.values():
        try:
            loaded[path] = load_principle(path, principles_root(path))
        except InputError as error:
            problems += error.problems
            continue
        problems += _check_principle(path, loaded[path])
    problems += _near_duplicates(loaded)
    return Checked(sorted(set(problems), key=in_order), [*constitutions, *wanted.values()])


def principles_root(path: Path) -> Path:
    """The nearest folder named ``principles`` above a file; its own folder where there is none."""
    return next((parent for parent in path.parents if parent.name == "principles"), path.parent)


def _problems(read: Callable[[Path], object], path: Path) -> Sequence[Problem]:
    try:
        read(path)
    except InputError as error:
        return error.problems
    return ()


def _check_principle(path: Path, principle: Principle) -> Iterable[Problem]:
    document = load(path)
    if not any(getattr(principle, name) for name in TEXTS):
        yield Problem(
            document.where(), "says nothing: give it critique and revise, or compare, or all three"
        )
    if bool(principle.critique) != bool(principle.revise):
        there, missing = ("critique", "revise") if principle.critique else ("revise", "critique")
        yield Problem(
            document.where((there,)),
            f"has a {there} text but no {missing} text; revising needs both",
        )
    for name in TEXTS:
        text = getattr(principle, name) or ""
        for match in SLOT_PATTERN.finditer(text):
            if match.group(1) not in SLOTS:
                yield Problem(
                    document.where((name,)),
                    f"unknown slot {match.group(0)}{did_you_mean(match.group(1), SLOTS)}; only {{{{ prompt }}}} is filled",
                )
        if len(text) > LONG:
            yield Problem(
                document.where((name,)),
                f"{name} has {len(text):,} characters; a model will not keep more than {LONG:,} in mind",
            )
    for i, example in enumerate(principle.examples):
        if example.better == example.worse:
            yield Problem(
                document.where(("examples", i)), "the better and the worse answer are the same"
            )


def _near_duplicates(loaded: dict[Path, Principle]) -> Iterable[Problem]:
    """Pairs of principles whose texts are almost the same; exact enough for a lint, and never quadratic in the length."""
    for name in TEXTS:
        texts = [(path, _words(getattr(p, name) or "")) for path, p in loaded.items()]
        for (one, first), (other, second) in combinations([t for t in texts if len(t[1]) > 3], 2):
            overlap = len(set(first) & set(second)) / max(len(set(first)), len(set(second)))
            if (
                overlap >= NEAR
                and difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= NEAR
            ):
                yield Problem(
                    load(other).where((name,)), f"says almost the same as {name} of {one}"
                )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _check_constitution(loader: Loader) -> Iterable[Problem]:
    document = load(loader.path)
    for use, needed in (("revise", ("critique", "revise")), ("judge", ("compare",))):
        weights = loader.weights[use]  # type: ignore[index]
        for name in weights:
            missing = _missing_texts(loader, name, needed)
            if missing:
                text = f"{name} is used to {use} but has no {' and no '.join(missing)} text"
                yield Problem(document.where((use, "principles")), text)
        if weights and not any(weights.values()):
            text = "all weights are zero; nothing can be drawn"
            yield Problem(document.where((use, "weights")), text)
    if not loader.weights["revise"] and not loader.weights["judge"]:
        text = "uses no principle; name some under revise: or judge:"
        yield Problem(document.where(), text)


def _missing_texts(loader: Loader, name: str, needed: Sequence[str]) -> list[str]:
    """The texts that a principle lacks; none for one that cannot be read, which is a problem of its own."""
    try:
        principle = load_principle(loader.files[name], loader.folder)
    except InputError:
        return []
    return [text for text in needed if not getattr(principle, text)]
