"""Select principles and their weights by globs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, MutableMapping, Sequence

from cai.constitution.schema import Selection, Use
from cai.documents import Document
from cai.errors import Problem, did_you_mean

Loc = tuple[str | int, ...]


def select(
    weights: MutableMapping[str, float],
    names: Mapping[str, Sequence[str]],
    selection: Selection,
    document: Document,
    use: Use,
) -> list[Problem]:
    """Apply a selection to the weights of principles.

    Args:
        weights: The weights by id, which are changed.
        names: The ids of all principles, each with the names that a glob may match.
        selection: What to add, to leave out and to weigh.
        document: The file of the selection.
        use: What the principles are selected for.

    Returns:
        One problem for each glob that matches nothing.
    """
    problems = []

    def matching(known: Iterable[str], pattern: str, loc: Loc) -> list[str]:
        matched = [name for name in known if fnmatch.filter(names[name], pattern)]
        if not matched:
            problems.append(unknown_principle(document, (use, *loc), pattern, names))
        return matched

    for i, pattern in enumerate(selection.principles):
        for name in matching(names, pattern, ("principles", i)):
            weights.setdefault(name, 1.0)
    for i, pattern in enumerate(selection.exclude):
        for name in matching(weights, pattern, ("exclude", i)):
            del weights[name]
    for pattern, weight in selection.weights.items():
        weights.update(dict.fromkeys(matching(weights, pattern, ("weights", pattern)), weight))
    return problems


def unknown_principle(document: Document, loc: Loc, pattern: str, names: Iterable[str]) -> Problem:
    """Say that a glob matches no principle.

    Args:
        document: The file with the glob.
        loc: Where the glob is.
        pattern: The glob.
        names: The ids of all principles.
    """
    known = list(names)
    if pattern in known:
        text = f"{pattern!r} is not selected here; name it under principles: first"
    else:
        text = f"no principle is called {pattern!r}{did_you_mean(pattern, known)}"
    return Problem(document.where(loc), text)
