"""What two constitutions say differently: principles that came, went or changed, weights that moved."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from cai.constitution.schema import Constitution, Use

TEXTS = ("critique", "revise", "compare")


class TextChange(NamedTuple):
    """One text of a principle, before and after; empty where there is none."""

    text: str
    before: str
    after: str

    def marked(self) -> str:
        """The text with what went in ``[-...-]`` and what came in ``{+...+}``, word by word."""
        before, after = re.split(r"(\s+)", self.before), re.split(r"(\s+)", self.after)
        pieces = []
        for kind, a, b, c, d in difflib.SequenceMatcher(
            a=before, b=after, autojunk=False
        ).get_opcodes():
            if kind == "equal":
                pieces.append("".join(before[a:b]))
                continue
            gone, come = "".join(before[a:b]), "".join(after[c:d])
            pieces += [
                f"[-{gone}-]" if gone.strip() else "",
                f"{{+{come}+}}" if come.strip() else come,
            ]
        return "".join(pieces)


class Change(NamedTuple):
    """What became of one principle: its texts, and its weight for each use as (before, after)."""

    principle: str
    kind: Literal["added", "removed", "changed", "weighted"]
    texts: Sequence[TextChange] = ()
    weights: Sequence[tuple[Use, float, float]] = ()


def changes(old: Constitution, new: Constitution) -> list[Change]:
    """One row per principle that is not as it was, by id. Titles, tags, notes and the order of files change nothing."""
    rows = []
    for name in sorted({*old.principles, *new.principles}):
        before, after = old.principles.get(name), new.principles.get(name)
        weights = tuple(
            (use, old.weights[use].get(name, 0.0), new.weights[use].get(name, 0.0))
            for use in get_args(Use)
            if old.weights[use].get(name, 0.0) != new.weights[use].get(name, 0.0)
        )
        texts = tuple(
            TextChange(text, one, other)
            for text in TEXTS
            if (one := getattr(before, text, None) or "")
            != (other := getattr(after, text, None) or "")
        )
        if before is None or after is None:
            rows.append(Change(name, "added" if before is None else "removed", texts, weights))
        elif texts or weights:
            rows.append(Change(name, "changed" if texts else "weighted", texts, weights))
    return rows
