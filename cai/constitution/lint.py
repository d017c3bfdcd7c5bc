"""Check principles, constitutions and prompt templates, without a model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cai.constitution.kinds import CONSTITUTION, PRINCIPLE, find_files
from cai.constitution.load import (
    USES,
    Loader,
    load_markdown,
    load_principle,
    nearby,
    templates_folder,
)
from cai.constitution.schema import (
    MAX_CHARACTERS,
    SLOT_PATTERN,
    SLOTS,
    TEXTS,
    Constitution,
    Principle,
    Use,
)
from cai.documents import Loc, load
from cai.errors import InputError, Problem, did_you_mean, in_order
from cai.templates.read import template_files

NEAR_DUPLICATE = 0.9
"""Similarity from which two texts count as the same principle written twice."""
MIN_WORDS = 3
"""Words up to which a text is too short to be compared."""
NEEDED_TEXTS: dict[Use, tuple[str, ...]] = {"revise": ("critique", "revise"), "judge": ("compare",)}
"""The texts that a principle needs for each use."""


class Checked(NamedTuple):
    """What a check read, and what it found.

    Attributes:
        problems: What is wrong, in the order of the files.
        files: The files that were read.
        notes: What models will not read of the files, which is no problem.
    """

    problems: list[Problem]
    files: list[Path]
    notes: Sequence[Problem] = ()


def check(paths: Sequence[Path]) -> Checked:
    """Check the principles and constitutions of some files and folders; skip run files.

    Args:
        paths: Files and folders.
    """
    files = find_files(paths)
    linted = lint(files.by_kind[PRINCIPLE], files.by_kind[CONSTITUTION])
    problems = sorted({*files.problems, *linted.problems}, key=in_order)
    return linted._replace(problems=problems)


def lint(principles: Sequence[Path], constitutions: Sequence[Path]) -> Checked:
    """Check principles, and constitutions with the principles and templates they use.

    Each file is checked once.

    Args:
        principles: Principle files.
        constitutions: Constitution files, YAML or Markdown.
    """
    problems: list[Problem] = []
    notes: list[Problem] = []
    to_read = {path.resolve(): path for path in principles}
    templates: dict[Path, None] = {}
    only_explains: dict[Path, bool] = {}  # principles of few-shot examples, which repeat others
    for path in constitutions:
        templates.update(dict.fromkeys(template_files(templates_folder(path))))
        if path.suffix == ".md":
            read = _check_prose(path)
            problems += read.problems
            notes += read.notes
            continue
        loader = Loader(path)
        for name in loader.drawn:
            file = loader.files[name]
            drawn = any(name in weights for weights in loader.weights.values())
            only_explains[file.resolve()] = not drawn and only_explains.get(file.resolve(), True)
            to_read.setdefault(file.resolve(), nearby(file))
        problems += loader.problems or _check_constitution(loader)
    loaded: dict[Path, Principle] = {}
    for path in to_read.values():
        try:
            loaded[path] = load_principle(path, principles_root(path))
        except InputError as error:
            problems += error.problems
            continue
        problems += _check_principle(path, loaded[path])
    compared = {path: p for path, p in loaded.items() if not only_explains.get(path.resolve())}
    problems += _near_duplicates(compared)
    files = [*constitutions, *to_read.values(), *templates]
    return Checked(sorted(set(problems), key=in_order), files, notes)


def principles_root(path: Path) -> Path:
    """Return the nearest folder ``principles`` above a file; its own folder if there is none."""
    return next((parent for parent in path.parents if parent.name == "principles"), path.parent)


def _check_prose(path: Path) -> Checked:
    try:
        read = load_markdown(path)
    except InputError as error:
        return Checked(error.problems, [path])
    problems = [
        Problem(str(path), f"no section has a weight to {use} by; nothing can be drawn")
        for use in USES
        if not read.constitution.used_for(use)
    ]
    return Checked(problems, [path], read.notes)


def check_edited(principle: Principle, constitution: Constitution) -> list[Problem]:
    """Check one principle that is being edited, as :func:`lint` checks its file.

    Args:
        principle: The principle with its new texts.
        constitution: The constitution that it belongs to.

    Returns:
        The problems; each is at the name of a text.
    """
    found = list(_principle_problems(principle))
    for use, needed in NEEDED_TEXTS.items():
        missing = [text for text in needed if not getattr(principle, text)]
        if constitution.weights[use].get(principle.id) and missing:
            found.append(((missing[0],), f"is used to {use}, which needs this text"))
    others = [p for p in constitution.principles.values() if p.id != principle.id]
    for name in TEXTS if principle.rule is None else ():
        words = _words(getattr(principle, name) or "")
        alike = [o for o in others if _similar(words, _words(getattr(o, name) or ""))]
        if len(words) > MIN_WORDS:
            found += [((name,), f"is almost the same as {name} of {o.id}") for o in alike]
    return [Problem(str(loc[0]) if loc else "", text) for loc, text in found]


def _check_principle(path: Path, principle: Principle) -> Iterator[Problem]:
    document = load(path)
    for loc, text in _principle_problems(principle):
        yield Problem(document.where(loc), text)


def _principle_problems(principle: Principle) -> Iterator[tuple[Loc, str]]:
    if not any(getattr(principle, name) for name in TEXTS):
        yield (), "has no text for a model; add critique and revise, or compare, or all three"
    if bool(principle.critique) != bool(principle.revise):
        present, missing = ("critique", "revise") if principle.critique else ("revise", "critique")
        yield (present,), f"has a {present} text but no {missing} text; revising needs both"
    for name in TEXTS if principle.rule is None else ():
        for message in _check_text(name, getattr(principle, name) or ""):
            yield (name,), message
    for i, example in enumerate(principle.examples):
        if example.better == example.worse:
            yield ("examples", i), "the better and the worse answer are the same"


def _check_text(name: str, text: str) -> Iterator[str]:
    for match in SLOT_PATTERN.finditer(text):
        if match.group(1) not in SLOTS:
            hint = did_you_mean(match.group(1), SLOTS)
            yield f"unknown slot {match.group(0)}{hint}; the only slot is {{{{ prompt }}}}"
    if len(text) > MAX_CHARACTERS:
        yield f"{name} has {len(text):,} characters; keep it below {MAX_CHARACTERS:,}"


def _near_duplicates(loaded: dict[Path, Principle]) -> Iterator[Problem]:
    """Find pairs of principles whose texts are almost the same.

    The words of both texts are compared as sets first, which is quick and rules most pairs out.
    """
    for name in TEXTS:
        texts = [(path, _words(getattr(p, name) or "")) for path, p in loaded.items()]
        long_enough = [(path, words) for path, words in texts if len(words) > MIN_WORDS]
        for (path, words), (other_path, other_words) in combinations(long_enough, 2):
            if _similar(words, other_words):
                text = f"{name} is almost the same as {name} of {path}"
                yield Problem(load(other_path).where((name,)), text)


def _similar(words: Sequence[str], other_words: Sequence[str]) -> bool:
    shared = len(set(words) & set(other_words))
    if shared < NEAR_DUPLICATE * max(len(set(words)), len(set(other_words))):
        return False
    matcher = difflib.SequenceMatcher(None, words, other_words, autojunk=False)
    return matcher.ratio() >= NEAR_DUPLICATE


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _check_constitution(loader: Loader) -> Iterator[Problem]:
    document = load(loader.path)
    for use, needed in NEEDED_TEXTS.items():
        weights = loader.weights[use]
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
    """Return the texts that a principle lacks; none if its file has problems of its own."""
    try:
        principle = load_principle(loader.files[name], loader.folder)
    except InputError:
        return []
    return [text for text in needed if not getattr(principle, text)]
