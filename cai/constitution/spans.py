"""The lines of a Markdown file that a section or a list item is made of."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cai.constitution.markdown import Section

_HASHES = re.compile(r"^ {0,3}#{1,6}(?:[ \t]|$)")
_UNDERLINE = re.compile(r"^ {0,3}(?:=+|-{2,})[ \t]*$")
_ITEM = re.compile(r"^((?:[-*+]|\d+[.)])[ \t]+)\S")


class Item(NamedTuple):
    """A list item.

    Attributes:
        first: The index of its first line.
        last: The index of the line after its last one.
        mark: What its first line has before the text.
    """

    first: int
    last: int
    mark: str


def section_span(text: str, sections: Sequence[Section], line: int) -> tuple[int, int]:
    """Find the text of a section, without its heading and the blank lines around it.

    Args:
        text: The file.
        sections: Its sections.
        line: The number of the heading's line.

    Returns:
        The index of its first line, and of the line after its last one.
    """
    lines = [one.rstrip("\r") for one in text.split("\n")]
    after = [section.line - 1 for section in sections if section.level and section.line > line]
    first, last = line, min(after, default=len(lines))
    if not _HASHES.match(lines[line - 1]):  # a heading of one or more lines above a rule
        while not _UNDERLINE.match(lines[first - 1]):
            first += 1
    while first < last and not lines[first].strip():
        first += 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return first, last


def item_span(text: str, begins: Collection[int], line: int) -> Item | None:
    """Find a list item with all inside it.

    Args:
        text: The file.
        begins: The numbers of the lines that the outermost list items of the file begin on.
        line: That of the item.

    Returns:
        None if the line does not begin with the mark of an item, which may be in a comment.
    """
    lines = [one.rstrip("\r") for one in text.split("\n")]
    match = _ITEM.match(lines[line - 1])
    if match is None:
        return None
    end = min((begin - 1 for begin in begins if begin > line), default=len(lines))
    return Item(line - 1, _end_of_item(lines, line - 1, end), match[1])


def _end_of_item(lines: Sequence[str], first: int, end: int) -> int:
    """The index of the line after the last one that belongs to an item."""
    last = first + 1
    for i in range(first + 1, end):
        follows_blank = not lines[i - 1].strip()
        if _HASHES.match(lines[i]) or (follows_blank and re.match(r"\S", lines[i])):
            break
        if lines[i].strip():
            last = i + 1
    return last
