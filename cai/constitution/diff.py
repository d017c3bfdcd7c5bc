"""Compare two constitutions: principles added or removed, and changed texts and weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from cai.constitution.schema import TEXTS, Constitution, Example, Principle, Use
from cai.words import UNSPACED

_WORD = re.compile(rf"\s+|[{UNSPACED}]|[^\s{UNSPACED}]+")
_SENTENCE = re.compile(r"\s*(?:[^.!?。！？।؟\n]+[.!?。！？।؟]*|[.!?。！？।؟\n]+)")
MAX_BY_WORDS = 8_000
"""Number of characters, before and after, up to which texts are compared word by word."""


class TextChange(NamedTuple):
    """One text of a principle, before and after.

    Attributes:
        text: Which text: ``critique``, ``revise`` or ``compare``, or the ``rule`` of a section of
            prose, from which these three are made.
        before: The old text; empty if there was none.
        after: The new text; empty if there is none.
    """

    text: str
    before: str
    after: str

    def marked(self) -> str:
        """Return the text with removed words as ``[-...-]`` and added ones as ``{+...+}``."""
        # comparing takes the product of the lengths, so long texts are compared by sentences
        is_long = len(self.before) + len(self.after) > MAX_BY_WORDS
        piece = _SENTENCE if is_long else _WORD
        before = piece.findall(self.before)
        after = piece.findall(self.after)
        matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
        pieces = []
        for kind, begin, end, new_begin, new_end in matcher.get_opcodes():
            removed = "".join(before[begin:end])
            added = "".join(after[new_begin:new_end])
            if kind == "equal":
                pieces.append(removed)
                continue
            if removed.strip():
                pieces.append(f"[-{removed}-]")
            pieces.append(f"{{+{added}+}}" if added.strip() else added)
        return "".join(pieces)


class Change(NamedTuple):
    """What changed in one principle.

    Attributes:
        principle: Its id.
        kind: ``added``, ``removed``, ``changed`` (its texts), or ``weighted`` (its weights only).
        texts: The texts that changed.
        weights: For each use whose weight changed, the old and the new weight.
    """

    principle: str
    kind: Literal["added", "removed", "changed", "weighted"]
    texts: Sequence[TextChange] = ()
    weights: Sequence[tuple[Use, float, float]] = ()


class ExampleChange(NamedTuple):
    """Examples of one principle that changed.

    Attributes:
        kind: ``example`` of a principle, or ``few_shot`` of critique and revision.
        principle: The principle's id.
        removed: The prompts of the examples that are gone.
        added: The prompts of those that are new.
    """

    kind: Literal["example", "few_shot"]
    principle: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


def changes(old: Constitution, new: Constitution) -> list[Change]:
    """List the principles that changed, by id.

    Titles, tags, notes and the order of files do not count.

    Args:
        old: The constitution before.
        new: The constitution after.
    """
    rows = []
    for name in sorted({*old.principles, *new.principles}):
        before = old.principles.get(name)
        after = new.principles.get(name)
        texts = _text_changes(before, after)
        weights = _weight_changes(old, new, name)
        if before is None:
            rows.append(Change(name, "added", texts, weights))
        elif after is None:
            rows.append(Change(name, "removed", texts, weights))
        elif texts:
            rows.append(Change(name, "changed", texts, weights))
        elif weights:
            rows.append(Change(name, "weighted", texts, weights))
    return rows


def example_changes(old: Constitution, new: Constitution) -> list[ExampleChange]:
    """List the examples that were added or removed; an edited one is both.

    Args:
        old: The constitution before.
        new: The constitution after.
    """
    rows = []
    for name in sorted({*old.principles, *new.principles}):
        before, after = old.principles.get(name), new.principles.get(name)
        rows += _changed("example", name, _prompts(before), _prompts(after))
    shots_before, shots_after = ({s: s.prompt for s in c.few_shot} for c in (old, new))
    names = list(dict.fromkeys(shot.principle for shot in (*shots_before, *shots_after)))
    for name in names:
        own = [
            {shot: prompt for shot, prompt in shots.items() if shot.principle == name}
            for shots in (shots_before, shots_after)
        ]
        rows += _changed("few_shot", name, *own)
    return rows


def _prompts(principle: Principle | None) -> dict[Example, str]:
    return {example: example.prompt for example in principle.examples} if principle else {}


def _changed(
    kind: Literal["example", "few_shot"],
    principle: str,
    before: Mapping[Any, str],
    after: Mapping[Any, str],
) -> list[ExampleChange]:
    removed = tuple(prompt for item, prompt in before.items() if item not in after)
    added = tuple(prompt for item, prompt in after.items() if item not in before)
    return [ExampleChange(kind, principle, removed, added)] if removed or added else []


def template_changes(old: Constitution, new: Constitution) -> list[str]:
    """List the names of the project's prompt templates that differ, in order.

    Args:
        old: The constitution before.
        new: The constitution after.
    """
    names = sorted({*old.templates, *new.templates})
    return [name for name in names if old.templates.get(name) != new.templates.get(name)]


def _text_changes(before: Principle | None, after: Principle | None) -> tuple[TextChange, ...]:
    texts = []
    is_prose = all(principle is None or principle.rule for principle in (before, after))
    for name in ("rule",) if is_prose else TEXTS:
        old_text = getattr(before, name, None) or ""
        new_text = getattr(after, name, None) or ""
        if old_text != new_text:
            texts.append(TextChange(name, old_text, new_text))
    return tuple(texts)


def _weight_changes(
    old: Constitution, new: Constitution, name: str
) -> tuple[tuple[Use, float, float], ...]:
    weights = []
    for use in get_args(Use):
        old_weight = old.weights[use].get(name, 0.0)
        new_weight = new.weights[use].get(name, 0.0)
        if old_weight != new_weight:
            weights.append((use, old_weight, new_weight))
    return tuple(weights)
