"""The verdict in a judge's own words: the last one that chooses A or B, or none. Never a guess.

One pass over the end of the text, so a long answer without a verdict costs no more than a short one.
"""

from __future__ import annotations

import re
import unicodedata

TAIL = 4_000
"""Characters at the end of an answer that are looked at."""

_NAMES = r"(?:repl(?:y|ies)|responses?|answers?|options?|assistants?|candidates?|completions?|models?|choices?)"
# "answer", "verdict: ", "I prefer", "my final choice is" ... and then, within a few words of a kind, a letter
_SAID = re.compile(
    rf"""(?:
        \b(?:answer|verdict|choice|winner|preference|decision|judge?ment|pick|best|better)
            (?:\s+(?:one|{_NAMES}))?["'”]?\s*(?:is|was|would\s+be|goes\s+to|:|=|-|–|—|\s)+
      | \b(?:i|we)(?:'d|'ll)?\s+(?:would\s+|will\s+)?(?:prefer|choose|pick|select|favou?r|go\s+with|vote\s+for)\s+
    )
    (?:definitely\s+|clearly\s+|probably\s+|therefore\s+|still\s+)?(?:the\s+)?(?:{_NAMES}\s+)?["'“(\[{{<]*(?P<letter>[A-H])(?![A-Za-z'’])(?=(?P<rest>.{{0,40}}))
    """,
    re.VERBOSE | re.IGNORECASE,
)
# "Reply A is better", "B wins"
_WINS = re.compile(
    rf"""(?:\b{_NAMES}\s+)?(?<![A-Za-z])["'“(\[]*(?P<letter>[A-H])["'”)\]]*\s+
    (?:is\s+(?:(?:clearly|much|slightly|definitely|the)\s+)*(?:better|best|preferable|safer|winner|preferred)|wins|is\s+to\s+be\s+preferred)
    (?=(?P<rest>.{{0,40}}))""",
    re.VERBOSE,
)
_BRACKETED = re.compile(r"\[\[(?P<letter>[A-H])\]\](?P<rest>)")
_ALONE = re.compile(rf"(?im)^\W*(?:{_NAMES}\s+)?\W*(?P<letter>[A-H])\W*(?P<rest>)$")
_FIRST = re.compile(r"^\W*(?P<letter>[AB])(?:[).:,;\]]|\s*[-–—])(?=(?P<rest>.{0,40}))")
_OTHER_TOO = re.compile(rf"^[^\w/&+]*(?:or|and|/|&|\+)\W*(?:{_NAMES}\W+)?[A-H]\b")
_NO_CHOICE = re.compile(r"\b(?:both|neither|either|a tie|tied?|equally|none of)\b", re.IGNORECASE)
_MARKDOWN = str.maketrans("", "", "*_`#~\u200b\u200c\u200d\ufeff")


def verdict(text: str) -> str | None:
    """``"A"``, ``"B"``, or None where nothing, neither, or something else was chosen.

    The last statement counts, so a judge may change its mind; a last statement that chooses no answer of the two is none.
    """
    text = unicodedata.normalize("NFKC", text[-TAIL:]).translate(_MARKDOWN)
    found = [
        match
        for pattern in (_SAID, _ALONE)
        for match in pattern.finditer(text)
        if _is_letter(match)
    ]
    found += [match for pattern in (_WINS, _BRACKETED) for match in pattern.finditer(text)]
    if not found:
        first = _FIRST.match(text)
        return (
            first["letter"]
            if first and not _NO_CHOICE.search(text) and not _OTHER_TOO.match(first["rest"])
            else None
        )
    last = max(found, key=lambda match: (match.end("letter"), match.start()))
    if _OTHER_TOO.match(last["rest"]) or re.search(r"\bnot\W+$", text[: last.start("letter")][-8:]):
        return None
    after = text[last.end("letter") :]
    if (
        _NO_CHOICE.search(after.partition("\n")[0])
        and not re.match(r"\W*$", after)
        and _retracts(after)
    ):
        return None
    letter = last["letter"].upper()
    return letter if letter in "AB" else None


def _is_letter(match: re.Match[str]) -> bool:
    """Whether the letter is one, not the article of "the answer is a matter of taste"."""
    letter, rest = match["letter"], match["rest"]
    if letter.islower() and letter != "a" and letter != "b":
        return False
    return not (
        letter in "aA"
        and re.match(
            r"\s+(?!is\b|wins\b|because\b|since\b|as\b|for\b|over\b|by\b|due\b|here\b|or\b|and\b)[a-z]",
            rest,
        )
    )


def _retracts(after: str) -> bool:
    """Whether what follows a verdict takes it back: "... A. But both are fine" does not choose."""
    return bool(
        re.search(
            r"\b(?:but|however|although|though)\b.*\b(?:both|neither|either|tie|equally)\b",
            after,
            re.IGNORECASE,
        )
    )
