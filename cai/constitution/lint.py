"""``cai check``: everything that can be said about principles and constitutions without a model, in one pass."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from cai.constitution.load import load_constitution, load_principle
from cai.constitution.schema import SLOT_PATTERN, SLOTS, Constitution, Principle
from cai.documents import load
from cai.errors import InputError, Problem, did_you_mean, in_order

LONG = 1_200
"""Characters above which a text is more than a model will hold in mind beside a conversation."""
NEAR = 0.9
"""Similarity from which two texts count as the same principle written twice."""
TEXTS = ("critique", "revise", "compare")


def check(paths: Sequence[Path]) -> list[Problem]:
    """All problems of the given files and folders; an empty list means that all is well."""
    problems: list[Problem] = []
    constitutions, principles = _files(paths, problems)
    loaded: dict[Path, Principle] = {}
    for path in principles:
        try:
            loaded[path] = load_principle(path, principles_root(path))
        except InputError as error:
            problems += error.problems
            continue
        problems += _check_principle(path, loaded[path])
    problems += _near_duplicates(loaded)
    for path in constitutions:
        try:
            problems += _check_constitution(path, load_constitution(path))
        except InputError as error:
            problems += error.problems
    return sorted(set(problems), key=in_order)


def principles_root(path: Path) -> Path:
    """The nearest folder named ``principles`` above a file; its own folder where there is none."""
    return next((parent for parent in path.parents if parent.name == "principles"), path.parent)


def _files(paths: Sequence[Path], problems: list[Problem]) -> tuple[list[Path], list[Path]]:
    """The constitution files and the principle files below the paths."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".md") and p.name != "README.md")
        elif path.exists():
            found.append(path)
        else:
            problems.append(Problem(str(path), "there is no such file or folder"))
    constitutions = [p for p in found if p.suffix == ".md" or _looks_like_constitution(p)]
    return constitutions, [p for p in found if p not in constitutions]


def _looks_like_constitution(path: Path) -> bool:
    if "principles" in [parent.name for parent in path.parents]:
        return False
    if path.parent.name == "constitution":
        return True
    try:
        value = load(path).value
    except InputError:
        return False
    return isinstance(value, dict) and bool({"include", "judge", "few_shot", "priorities"} & value.keys())


def _check_principle(path: Path, principle: Principle) -> Iterable[Problem]:
    document = load(path)
    if not any(getattr(principle, name) for name in TEXTS):
        yield Problem(document.where(), "says nothing: give it critique and revise, or compare, or all three")
    if bool(principle.critique) != bool(principle.revise):
        there, missing = ("critique", "revise") if principle.critique else ("revise", "critique")
        yield Problem(document.where((there,)), f"has a {there} text but no {missing} text; revising needs both")
    for name in TEXTS:
        text = getattr(principle, name) or ""
        for match in SLOT_PATTERN.finditer(text):
            if match.group(1) not in SLOTS:
                yield Problem(
                    document.where((name,)),
                    f"unknown slot {match.group(0)}{did_you_mean(match.group(1), SLOTS)}; only {{{{ prompt }}}} is filled",
                )
        if len(text) > LONG:
            yield Problem(document.where((name,)), f"{name} has {len(text):,} characters; a model will not keep more than {LONG:,} in mind")
    for i, example in enumerate(principle.examples):
        if example.better == example.worse:
            yield Problem(document.where(("examples", i)), "the better and the worse answer are the same")


def _near_duplicates(loaded: dict[Path, Principle]) -> Iterable[Problem]:
    """Pairs of principles whose texts are almost the same; exact enough for a lint, and never quadratic in the length."""
    for name in TEXTS:
        texts = [(path, _words(getattr(p, name) or "")) for path, p in loaded.items()]
        for (one, first), (other, second) in combinations([t for t in texts if len(t[1]) > 3], 2):
            overlap = len(set(first) & set(second)) / max(len(set(first)), len(set(second)))
            if overlap >= NEAR and difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= NEAR:
                yield Problem(load(other).where((name,)), f"says almost the same as {name} of {one}")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _check_constitution(path: Path, law: Constitution) -> Iterable[Problem]:
    if path.suffix == ".md":
        return
    document = load(path)
    for use, needed in (("revise", ("critique", "revise")), ("judge", ("compare",))):
        weights = law.weights[use]  # type: ignore[index]
        for name in weights:
            missing = [text for text in needed if not getattr(law.principles[name], text)]
            if missing:
                yield Problem(document.where((use, "principles")), f"{name} is used to {use} but has no {' and no '.join(missing)} text")
        if weights and not any(weights.values()):
            yield Problem(document.where((use, "weights")), "all weights are zero; nothing can be drawn")
    if not law.weights["revise"] and not law.weights["judge"]:
        yield Problem(document.where(), "uses no principle; name some under revise: or judge:")
