"""The words with which judges state a verdict, by language: a table that users can extend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml

from cai.config.feedback import VerdictWords

FIELDS = get_args(VerdictWords)
"""The kinds of words of a language, see ``verdict_words.yaml``."""
LETTERS = "[A-H]"
_OPEN = r"[\s\"'“‘«„(\[{<「]*"
_CLOSE = r"[\s\"'”’»“)\]}>」]*"
_SENTENCE_ENDS = ".!?;:\n。！？；؟।"
_CLAUSE_ENDS = re.compile(rf"[{re.escape(_SENTENCE_ENDS)},،，、]|\b(?:but|so|therefore|because)\b")
_QUESTION = re.compile(rf"[^{re.escape(_SENTENCE_ENDS)}]*[?？؟]")
_NO_SPACES = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


class Statement(NamedTuple):
    """A place where a text chooses a letter.

    Attributes:
        letter: The letter, ``A`` to ``H``.
        start: Where it stands.
        end: Where it ends.
    """

    letter: str
    start: int
    end: int


@dataclass(frozen=True)
class Language:
    """The words of one language.

    Attributes:
        words: The words of each of ``FIELDS``.
        letters: Other ways to write ``A`` and ``B``.
    """

    words: Mapping[str, tuple[str, ...]]
    letters: Mapping[str, tuple[str, ...]]

    def statements(self, text: str) -> Iterator[Statement]:
        """Find the places where a text chooses a letter, in the words of this language."""
        for pattern in self._patterns:
            for match in pattern.finditer(text):
                written = match["letter"]
                letter = next((a for a, own in self.letters.items() if written in own), written)
                yield Statement(letter, *match.span("letter"))

    def is_retracted(self, text: str, statement: Statement) -> bool:
        """Whether a text negates a statement, makes it depend on something, or leaves it open."""
        clause = _CLAUSE_ENDS.split(text[: statement.start])[-1]
        after = text[statement.end :].partition("\n")[0]
        sentence = re.split(f"[{re.escape(_SENTENCE_ENDS)}]", after)[0]
        return (
            self._has("negations", clause)
            or self._has("unsure", clause)
            or self._is_conditional(after)
            or self._has("no_choice", sentence)
            or self.is_open(after)
        )

    def is_open(self, after: str) -> bool:
        """Whether what follows a letter adds another letter: "or B"."""
        joins = "|".join(filter(None, [self._any("joins"), "[/&+]"]))
        names = self._any("names") or joins
        pattern = rf"{_CLOSE}\W*(?:{joins})(?:\W|{joins})*(?:{names})?{_OPEN}{LETTERS}\b"
        return re.match(pattern, after, re.IGNORECASE) is not None

    def has_no_choice(self, text: str) -> bool:
        """Whether a text speaks of both, of neither or of a tie."""
        return self._has("no_choice", text)

    def _is_conditional(self, after: str) -> bool:
        unsure = self._any("unsure")
        return bool(unsure) and bool(re.match(rf"{_CLOSE}(?:{unsure})", after, re.IGNORECASE))

    def _has(self, field: str, text: str) -> bool:
        words = self._any(field)
        return bool(words) and re.search(words, text, re.IGNORECASE) is not None

    def _any(self, field: str) -> str:
        """Return an expression for any word of a field, the longest first; empty without words."""
        return _alternatives(self.words.get(field, ()))

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        names, links, before = self._any("names"), self._any("links"), self._any("before")
        others = "|".join(
            rf"(?<!\w){re.escape(letter)}(?!\w)" if not _NO_SPACES.match(letter) else letter
            for own in self.letters.values()
            for letter in own
        )
        latin = rf"(?<![A-Za-z])(?-i:{LETTERS})(?![A-Za-z'’])"
        letter = rf"(?P<letter>{latin}{'|' + others if others else ''})"
        named = rf"(?:(?:{names})\s*)?" if names else ""
        link = rf"(?:{links}|[:=–—-])" if links else r"[:=–—-]?"
        found = []
        if before:
            found.append(rf"(?:{before})\s*{link}\s*[:]?\s*{named}{_OPEN}{letter}")
            if last := self._any("links_after"):
                found.append(rf"(?:{before})\s*{_OPEN}{letter}{_CLOSE}(?:{last})")
        if choose := self._any("choose"):
            found.append(rf"(?:{choose})\s*[:]?\s*(?:\w{{2,3}}\s)?{named}{_OPEN}{letter}")
        if after := self._any("after"):
            found.append(rf"{named}{_OPEN}{letter}{_CLOSE}(?:{after})")
        if names:
            found.append(rf"(?m)^\W*{named}{_OPEN}{letter}\W*$")
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in found)


Languages = tuple[tuple[str, Language], ...]
"""Languages by name."""


def is_question(text: str, end: int) -> bool:
    """Whether the sentence around a place in a text is a question.

    Args:
        text: The text.
        end: The place.
    """
    return _QUESTION.match(text, end) is not None


def _alternatives(words: Sequence[str]) -> str:
    ordered = sorted(words, key=len, reverse=True)
    return "|".join(
        re.escape(word) if _NO_SPACES.search(word) else rf"(?<!\w){re.escape(word)}(?!\w)"
        for word in ordered
    )


@cache
def shipped_table() -> Mapping[str, Mapping[str, Any]]:
    """Return the shipped words by language."""
    path = Path(__file__).with_name("verdict_words.yaml")
    table: Mapping[str, Mapping[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table


def languages(
    more: Mapping[str, Mapping[Any, Sequence[str]]] | None = None,
) -> Languages:
    """Return the shipped languages with more words added.

    Args:
        more: Words by language and field; a language that is not there yet is a new one.
    """
    shipped = shipped_table()
    found = []
    for name in dict.fromkeys([*shipped, *(more or {})]):
        own, added = shipped.get(name, {}), (more or {}).get(name, {})
        words = {field: (*own.get(field, ()), *added.get(field, ())) for field in FIELDS}
        found.append((name, Language(words, own.get("letters", {}))))
    return tuple(found)


SHIPPED = languages()
"""The languages that ship with ``cai``."""
