"""Measure the length of texts in any script."""

from __future__ import annotations

import re

UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"  # CJK
    "\U00020000-\U0003ffff"
)
"""The characters of scripts that put no spaces between words, inside of a regular expression."""
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
TOKENS_PER_WORD = 1.4
"""A rough average for English text."""
_CHARACTERS_PER_TOKEN = 5
_TOKENS_PER_LETTER = 0.5
"""A rough average for letters that are not ASCII, such as Arabic and Hindi ones."""


def words(text: str) -> list[str]:
    """Split a text at its blanks, and between the characters of scripts without blanks.

    Args:
        text: The text.
    """
    return text.split() if text.isascii() else _WORD.findall(text)


def estimated_tokens(text: str) -> float:
    """Estimate the tokens of a text without a tokenizer.

    Args:
        text: The text.
    """
    return sum(map(_tokens_of_word, words(text)))


def _tokens_of_word(word: str) -> float:
    if word.isascii():
        return max(TOKENS_PER_WORD, len(word) / _CHARACTERS_PER_TOKEN)
    if len(word) == 1:
        return 1.0
    ascii_letters = sum(map(str.isascii, word))
    foreign = len(word) - ascii_letters
    tokens = ascii_letters / _CHARACTERS_PER_TOKEN + foreign * _TOKENS_PER_LETTER
    return max(TOKENS_PER_WORD, tokens)
