"""Find the verdict in a judge's text: the last one that chooses A or B. Never a guess.

The patterns below are linear in the length of the text, so a long answer without a verdict costs no
more than a short one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

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
                    \s*(?:is|was|would\s+be|goes\s+to|:|=|-|–|—|\s)+
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

_OTHER_LETTER_TOO = re.compile(rf"^[^\w/&+]*(?:or|and|/|&|\+)\W*(?:{_NAME}\W+)?[A-H]\b")
_NO_CHOICE = re.compile(r"\b(?:both|neither|either|a tie|tied?|equally|none of)\b", re.IGNORECASE)
_RETRACTION = re.compile(
    r"\b(?:but|however|although|though)\b.*\b(?:both|neither|either|tie|equally)\b", re.IGNORECASE
)
_NEGATION = re.compile(r"\bnot\W+$")
_NOUN = re.compile(r"\s+(?!(?:is|wins|because|since|as|for|over|by|due|here|or|and)\b)[a-z]")


def verdict(text: str) -> str | None:
    """Return the verdict of a text.

    The last statement counts, so a judge may change its mind.

    Args:
        text: What the judge wrote.

    Returns:
        ``"A"`` or ``"B"``; None if the text chooses nothing, both, or something else.
    """
    text = unicodedata.normalize("NFKC", text[-MAX_TAIL:]).translate(_MARKDOWN)
    statements = [
        match
        for pattern in PATTERNS
        for match in pattern.regex.finditer(text)
        if not (pattern.may_be_article and _is_article(match))
    ]
    if not statements:
        return _first_letter(text)
    last = max(statements, key=lambda match: (match.end("letter"), match.start()))
    before, after = text[: last.start("letter")], text[last.end("letter") :]
    if _OTHER_LETTER_TOO.match(last["rest"]) or _NEGATION.search(before[-8:]):
        return None
    if _NO_CHOICE.search(after.partition("\n")[0]) and _RETRACTION.search(after):
        return None
    letter = last["letter"].upper()
    return letter if letter in "AB" else None


def _first_letter(text: str) -> str | None:
    """Return the letter that a text begins with, if it chooses nothing else."""
    match = FIRST_LETTER.regex.match(text)
    if match is None or _NO_CHOICE.search(text) or _OTHER_LETTER_TOO.match(match["rest"]):
        return None
    return match["letter"]


def _is_article(match: re.Match[str]) -> bool:
    """Return whether the letter is a word, as in "the answer is a matter of taste"."""
    letter = match["letter"]
    if letter.islower() and letter not in "ab":
        return True
    return letter in "aA" and bool(_NOUN.match(match["rest"]))
