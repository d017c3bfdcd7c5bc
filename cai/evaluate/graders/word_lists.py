"""Lists of words and patterns that are looked for in answers."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from pydantic import field_validator

from cai.config.base import Section
from cai.documents import load, validated
from cai.errors import InputError, Problem, did_you_mean

_SHIPPED = Path(__file__).with_name("lists")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"'})


class WordList(Section):
    """A list of words and patterns."""

    words: tuple[str, ...] = ()
    """Words and phrases, found at word boundaries whatever their case."""
    patterns: tuple[str, ...] = ()
    """Regular expressions, for what words cannot say."""
    within: int = 0
    """Number of characters at the beginning of an answer that are searched; 0: all."""

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns

    def found_in(self, text: str) -> str:
        """Return the first words of the list in a text; empty if there are none.

        Args:
            text: The text.
        """
        text = plain(text)
        match = _compiled(self).search(text[: self.within] if self.within else text)
        return match[0] if match else ""


def word_list(name: str) -> WordList:
    """Read a list of words.

    Args:
        name: The name of a shipped list, or a YAML file.

    Raises:
        InputError: If there is no such list, or with every problem of the file.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = _SHIPPED / f"{name}.yaml"
        if not path.is_file():
            known = sorted(file.stem for file in _SHIPPED.glob("*.yaml"))
            hint = f"{did_you_mean(name, known)}; there are {', '.join(known)}, or name a file"
            raise InputError([Problem(name, f"no list of words has this name{hint}")])
    return validated(WordList, load(path))


def plain(text: str) -> str:
    """Return a text with straight quotes and single spaces, as lists of words are written.

    Args:
        text: The text.
    """
    return " ".join(text.translate(_QUOTES).split())


def holds(text: str, phrase: str) -> bool:
    """Tell whether a text has a word or phrase at word boundaries, whatever their case.

    Args:
        text: The text.
        phrase: The word or phrase.
    """
    return re.search(_bounded(plain(phrase)), plain(text), re.IGNORECASE) is not None


@lru_cache
def _compiled(words: WordList) -> re.Pattern[str]:
    parts = [*map(_bounded, words.words), *words.patterns]
    return re.compile("|".join(f"(?:{part})" for part in parts) or r"(?!)", re.IGNORECASE)


def _bounded(phrase: str) -> str:
    return rf"(?<!\w){re.escape(phrase)}(?!\w)"
