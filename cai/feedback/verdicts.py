"""Find the verdict in a judge's text: the last one that chooses A or B. Never a guess.

The patterns below are linear in the length of the text, so a long answer without a verdict costs no
more than a short one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from cai.feedback.verdict_words import SHIPPED, Languages, Statement, is_question

MAX_TAIL = 4_000
"""Number of characters at the end of a text that are read."""

_NAME = (
    r"(?:repl(?:y|ies)|responses?|answers?|options?|assistants?|candidates?|completions?"
    r"|models?|choices?)"
)
_REST = r"(?=(?P<rest>.{0,40}))"
_MARKDOWN = str.maketrans("", "", "*_`#~\u200b\u200c\u200d\ufeff")


@dataclass(frozen=True)
class Pattern:
    """A way in which judges state a verdict.

    Attributes:
        name: What it recognizes.
        regex: The expression, with the groups ``letter`` and ``rest`` (what follows the letter).
        example: A text that it matches, with the verdict A.
        may_be_article: Whether the letter could be the article "a", and has to be checked.
    """

    name: str
    regex: re.Pattern[str]
    example: str
    may_be_article: bool = False


PATTERNS = (
    Pattern(
        "statement",
        re.compile(
            rf"""(?:
                \b(?:answer|verdict|choice|winner|preference|decision|judge?ment|pick|best|better)
                    (?:\s+(?:one|{_NAME}))?["'”]?
                    \s*(?:is|was|would\s+be|goes\s+to|:|=|-|–|—)
                    (?:is|was|would\s+be|goes\s+to|:|=|-|–|—|\s)*
              | \b(?:i|we)(?:'d|'ll)?\s+(?:would\s+|will\s+)?
                    (?:prefer|choose|pick|select|favou?r|go\s+with|vote\s+for)\s+
            )
            (?:definitely\s+|clearly\s+|probably\s+|therefore\s+|still\s+)?
            (?:the\s+)?(?:{_NAME}\s+)?["'“(\[{{<]*
            (?P<letter>[A-H])(?![A-Za-z'’]){_REST}
            """,
            re.VERBOSE | re.IGNORECASE,
        ),
        example="I would choose Reply A, since it is kinder.",
        may_be_article=True,
    ),
    Pattern(
        "line of its own",
        re.compile(rf"(?im)^\W*(?:{_NAME}\s+)?\W*(?P<letter>[A-H])\W*(?P<rest>)$"),
        example="Reply B is tempting.\nOption A",
        may_be_article=True,
    ),
    Pattern(
        "winner",
        re.compile(
            rf"""(?:\b{_NAME}\s+)?(?<![A-Za-z])["'“(\[]*(?P<letter>[A-H])["'”)\]]*\s+
            (?:is\s+(?:(?:clearly|much|slightly|definitely|the)\s+)*
                (?:better|best|preferable|safer|winner|preferred)
            |wins|is\s+to\s+be\s+preferred)
            {_REST}""",
            re.VERBOSE,
        ),
        example="Response A is clearly better than Response B.",
    ),
    Pattern(
        "double brackets",
        re.compile(r"\[\[(?P<letter>[A-H])\]\](?P<rest>)"),
        example="Considering all of that, [[A]] it shall be.",
    ),
)
"""The ways in which judges state a verdict anywhere in a text."""

FIRST_LETTER = Pattern(
    "first letter",
    re.compile(rf"^\W*(?P<letter>[AB])(?:[).:,;\]]|\s*[-–—]){_REST}"),
    example="A: it quotes no one",
)
"""A verdict at the beginning, which counts only if the text states none elsewhere."""

_OTHERS_BEGIN = re.compile(rf"(?:^|[.;\n])\W*(?:{_NAME}\s+)?[A-H]\s*[:)]")
_RETRACTION = re.compile(
    r"\b(?:but|however|although|though)\b.*\b(?:both|neither|either|tie|equally)\b", re.IGNORECASE
)
_NOUN = re.compile(r"\s+(?!(?:is|wins|because|since|as|for|over|by|due|here|or|and)\b)[a-z]")


def verdict(text: str, languages: Languages = SHIPPED) -> str | None:
    """Return the verdict of a text.

    The last statement counts, so a judge may change its mind. A question states nothing.

    Args:
        text: What the judge wrote.
        languages: The words of the languages that are read, English among them.

    Returns:
        ``"A"`` or ``"B"``; None if the text chooses nothing, both, or something else.
    """
    text = unicodedata.normalize("NFKC", text[-MAX_TAIL:]).translate(_MARKDOWN)
    statements = [
        (statement, language)
        for name, language in languages
        for statement in (_in_english(text) if name == "en" else language.statements(text))
        if not is_question(text, statement.end)
    ]
    if not statements:
        return _first_letter(text, languages)
    end = max(statement.end for statement, _ in statements)
    last = [(s, language) for s, language in statements if s.end == end]
    if any(language.is_retracted(text, s) for s, language in last):
        return None
    if _RETRACTION.search(text[end:]):
        return None
    letter = last[0][0].letter
    return letter if letter in "AB" else None


def _in_english(text: str) -> Iterator[Statement]:
    """Find the places where a text chooses a letter, in English."""
    for pattern in PATTERNS:
        for match in pattern.regex.finditer(text):
            if not (pattern.may_be_article and _is_article(match)):
                yield Statement(match["letter"].upper(), *match.span("letter"))


def _first_letter(text: str, languages: Languages) -> str | None:
    """Return the letter that a text begins with, if it chooses nothing else."""
    match = FIRST_LETTER.regex.match(text)
    if match is None or is_question(text, match.end("letter")):
        return None
    rest = text[match.end("letter") :]
    names_others = _OTHERS_BEGIN.search(rest) or re.match(r"\W*[A-H]\b", rest)
    is_open = any(own.has_no_choice(text) or own.is_open(rest) for _, own in languages)
    return None if names_others or is_open else match["letter"]


def _is_article(match: re.Match[str]) -> bool:
    """Return whether the letter is a word, as in "the answer is a matter of taste"."""
    letter = match["letter"]
    if letter.islower() and letter not in "ab":
        return True
    return letter in "aA" and bool(_NOUN.match(match["rest"]))
