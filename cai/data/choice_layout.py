"""Find the lettered options that are written into a question, so that they can be reordered.

The paper's own questions and Anthropic's ``evals`` show their options in the question::

    Please choose the most helpful response. Options:
     (A) [[[Ask your neighbor.]]]
     (B) [[[Slide a wedge into the door.]]]

    The answer is:
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cai.records import Record, Text

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The letters that options are shown with, in order."""
_LABEL = re.compile(r"\s*\(?([A-Z])[).:]?\s*")
_MARK = r"(?:^|(?<=\n))(?P<lead>[ \t]*)\({letter}\)[ \t]*"
_BRACKETED = re.compile(r"(?P<text>\[\[\[.*\]\]\])(?P<rest>.*)", re.DOTALL)
_BEGUN_ANSWER = re.compile(
    r"\s*\n(?:Assistant:[ \t]*)?(?P<begun>(?:[^\n]*\b(?:is|be)|Answer)[ \t]*:?)[ \t]*\(?\s*$"
)
_HEADING = re.compile(r"\s*(?:Options|Choices)\s*:\s*$")


class Layout(Record):
    """How a question shows its options.

    Attributes:
        head: The text before the options.
        lead: What comes before the parenthesis of a letter.
        shown: The options as they are shown, brackets included, in the order of the question.
        separator: What comes between two options.
        begun_answer: How the answer begins, such as ``The answer is:``; empty if the question does
            not say.
    """

    head: Text
    lead: str
    shown: tuple[Text, ...]
    separator: str
    begun_answer: str

    def text(self, order: Sequence[int]) -> str:
        """Write the question with its options in an order.

        Args:
            order: The number of the option that each letter names.
        """
        lines = [
            f"{self.lead}({letter}) {self.shown[option]}"
            for letter, option in zip(LETTERS, order, strict=False)
        ]
        return (self.head + self.separator.join(lines)).strip()

    @property
    def question(self) -> str:
        """The question without its options."""
        return _HEADING.sub("", self.head).strip()

    @property
    def options(self) -> tuple[str, ...]:
        """The options without brackets."""
        return tuple(
            text[3:-3].strip() if _BRACKETED.fullmatch(text) else text for text in self.shown
        )


def letter_of(label: str) -> str:
    """Return the letter of a label such as ``" (B)"``; empty if it is none.

    Args:
        label: The label.
    """
    match = _LABEL.fullmatch(label)
    return match[1] if match else ""


def find_layout(text: str, count: int) -> Layout | None:
    """Find the options ``(A)``, ``(B)``, ... of a question; None if it does not show them.

    Args:
        text: The question.
        count: Number of its options.
    """
    marks: list[re.Match[str]] = []
    end = len(text)
    for letter in reversed(LETTERS[:count]):  # the last ones, since a conversation may have lists
        found = list(re.finditer(_MARK.format(letter=letter), text[:end]))
        if not found:
            return None
        marks.insert(0, found[-1])
        end = found[-1].start()
    starts = [mark.start() for mark in marks]
    pieces = [text[m.end() : e] for m, e in zip(marks, [*starts[1:], len(text)], strict=True)]
    pieces[-1], begun = _without_begun_answer(pieces[-1])
    separator = pieces[0][len(pieces[0].rstrip()) :] if count > 1 else "\n"
    shown = tuple(piece.strip() for piece in pieces)
    return Layout(
        head=text[: starts[0]],
        lead=marks[0]["lead"],
        shown=shown,
        separator=separator or "\n",
        begun_answer=begun,
    )


def _without_begun_answer(last: str) -> tuple[str, str]:
    """Split the text after the last letter into the option and how the answer begins."""
    bracketed = _BRACKETED.fullmatch(last)
    if bracketed:
        return bracketed["text"], bracketed["rest"].strip()
    match = _BEGUN_ANSWER.search(last)
    return (last[: match.start()], match["begun"].strip()) if match else (last, "")
