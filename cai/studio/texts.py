"""Texts of models as a page shows them: nothing hidden, nothing that acts, and not without end."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from cai.studio.rows import WITHOUT_SPACES

MAX_SHOWN = 20_000
"""Characters of one text that a page shows; the rest is one click away."""
MAX_MATCHES = 200_000
"""Pairs of equal words up to which two texts are compared word by word."""
_HIDDEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e"
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\U000e0000-\\U000e0fff]"
)
"""Characters that are not seen, and may change how others are: all but tab, line feed, and the two
joiners that some scripts need."""
_NAMES = {
    0: "NULL",
    7: "BELL",
    8: "BACKSPACE",
    12: "FORM FEED",
    13: "CARRIAGE RETURN",
    27: "ESCAPE",
}
_WORD = re.compile(rf"{WITHOUT_SPACES}|\w+?(?={WITHOUT_SPACES})|\w+\s*|[^\w\s]\s*|\s+")


class Piece(NamedTuple):
    """A part of a text.

    Attributes:
        text: What is shown.
        hidden: The name of the character that ``text`` stands for; empty for an ordinary text.
    """

    text: str
    hidden: str = ""


class Change(NamedTuple):
    """A part of two versions of a text.

    Attributes:
        kind: Whether it is in both versions, in the former only, or in the latter only.
        text: The part.
    """

    kind: Literal["same", "removed", "added"]
    text: str


def pieces(text: str) -> Iterator[Piece]:
    """Split a text into what is shown as it is, and characters that only a name can show.

    Args:
        text: The text. Windows line ends count as line feeds.
    """
    text = text.replace("\r\n", "\n")
    start = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > start:
            yield Piece(text[start : match.start()])
        yield _stand_in(match[0])
        start = match.end()
    if start < len(text):
        yield Piece(text[start:])


def visible(text: str) -> str:
    """Return a text with a stand-in for every character that is not seen."""
    return "".join(piece.text for piece in pieces(text))


def _stand_in(character: str) -> Piece:
    code = ord(character)
    name = unicodedata.name(character, "") or _NAMES.get(code, "CONTROL CHARACTER")
    shown = chr(0x2400 + code) if code < 0x20 else f"[U+{code:04X}]"
    return Piece(shown, f"U+{code:04X} {name}")


def differences(before: str, after: str) -> list[Change]:
    """Compare two versions of a text word by word.

    Args:
        before: The former version.
        after: The latter.

    Returns:
        The parts in order. Of texts that are too long or too repetitive for that, what is between
        the first and the last difference counts as one change.
    """
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    middle_old, middle_new = old[start : len(old) - end], new[start : len(new) - end]
    parts = [Change("same", "".join(old[:start]))]
    parts += _compared(middle_old, middle_new)
    parts.append(Change("same", "".join(old[len(old) - end :])))
    return [part for part in parts if part.text]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of words that two lists begin with."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _compared(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    counts = Counter(new)
    if sum(counts[word] for word in old) > MAX_MATCHES:
        yield Change("removed", "".join(old))
        yield Change("added", "".join(new))
        return
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield Change("same", "".join(old[a:b]))
        else:
            yield Change("removed", "".join(old[a:b]))
            yield Change("added", "".join(new[c:d]))
