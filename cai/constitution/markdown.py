"""Split a Markdown file into sections and blocks, as people write it.

Known are front matter, headings of both styles with attributes (``{#id .class key=value}``), fenced
code, HTML comments, and marked blocks: ``!!! kind`` with an indented text, and ``::: kind`` up to
``:::``. Everything else is text, whose lists, tables and quotations keep their lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cai.errors import InputError, Problem

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([^`]*?)\s*$")
_COMMENT = re.compile(r"(`[^`]*`)|<!--.*?-->")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-{2,})[ \t]*$")
_ATTRIBUTES = re.compile(r"[ \t]*\{:?[ \t]*([^{}]*?)[ \t]*\}$")
_ATTRIBUTE = re.compile(r"""#[^\s#]+|\.[^\s.]\S*|[\w-]+=(?:"[^"]*"|'[^']*'|[^\s"']+)""")
_INDENTED_BLOCK = re.compile(r"^(?:!!!|\?\?\?\+?)[ \t]+([\w-]+)")
_FENCED_BLOCK = re.compile(r"^ {0,3}(:{3,})[ \t]*\{?\.?([\w-]+)")
_STRUCTURE = re.compile(r"^\s*(?:[-*+][ \t]|\d+[.)][ \t]|[>|]|\[\^)|^(?: {4}|\t)")
"""The beginning of a line that is no continuation of a paragraph."""
FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",)}
"""The lines that open front matter, each with those that close it."""


class Block(NamedTuple):
    """A part of a section.

    Attributes:
        kind: ``text``, ``code`` (with the lines around it), or ``marked``.
        line: The number of its first line.
        text: Its text; of a marked block without the marks.
        label: The word after the mark or fence, such as ``example`` or ``xml``.
        lines: The number of the line of the file that each line of its text begins on.
    """

    kind: Literal["text", "code", "marked"]
    line: int
    text: str
    label: str = ""
    lines: Sequence[int] = ()


@dataclass
class Section:
    """A heading and what is below it, up to the next heading.

    Attributes:
        heading: The text of the heading.
        level: Its level, 1 to 6; 0 for what is above the first heading.
        line: The number of its line.
        id: The id that its attributes name; empty if they name none.
        attributes: The other attributes. A class has an empty value.
        blocks: The parts of its text.
    """

    heading: str
    level: int
    line: int
    id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


class Markdown(NamedTuple):
    """A Markdown file.

    Attributes:
        front_matter: The lines of its front matter; empty lines stand for the mark above them.
        sections: What is above the first heading, then each heading with its text.
    """

    front_matter: str
    sections: list[Section]


def parse(path: str, text: str) -> Markdown:
    """Split a text into its sections.

    Args:
        path: The name of the file, for messages.
        text: Its content.

    Raises:
        InputError: if front matter, a code block, a comment or a marked block has no end.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    begin = _end_of_front_matter(path, lines)
    front_matter = "\n" + "\n".join(lines[1 : begin - 1]) if lines[0].rstrip() == "---" else ""
    parser = _Parser(path, lines, begin)
    while parser.at < len(lines):
        parser.step()
    parser.flush()
    return Markdown(front_matter if begin else "", parser.sections)


def _end_of_front_matter(path: str, lines: Sequence[str]) -> int:
    """Return the index of the line after the front matter; 0 if there is none."""
    ends = FRONT_MATTER.get(lines[0].rstrip())
    if ends is None or len(lines) == 1 or not lines[1].strip():
        return 0
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ends:
            return number + 1
    raise InputError([Problem(f"{path}:1:1", f"the front matter has no end; add {ends[0]}")])


class _Parser:
    """Reads lines one after the other."""

    def __init__(self, path: str, lines: Sequence[str], begin: int) -> None:
        self.path = path
        self.lines = lines
        self.at = begin
        self.sections = [Section("", 0, 1)]
        self._text: list[tuple[int, str]] = []  # with the number of each line

    def step(self) -> None:
        """Read the next line, or the block that it opens."""
        number = self.at + 1
        line = self._without_comments(self.lines[self.at])
        if fence := _FENCE.match(line):
            self._fenced_code(fence)
        elif mark := _INDENTED_BLOCK.match(line):
            self._indented_block(mark[1])
        elif mark := _FENCED_BLOCK.match(line):
            self._fenced_block(mark)
        elif heading := _HEADING.match(line):
            self._begin_section(len(heading[1]), heading[2] or "", self.at)
            self.at += 1
        elif self._underlines(line):
            heading_text = " ".join(part.strip() for _, part in self._text)
            heading_index = self._text[0][0] - 1
            self._text = []
            self._begin_section(1 if "=" in line else 2, heading_text, heading_index)
            self.at += 1
        else:
            self._add_text(number, line)
            self.at += 1

    def flush(self) -> None:
        """End the paragraph that is being read."""
        if self._text:
            joined = _joined(self._text)
            lines = [number for number, _ in joined]
            text = "\n".join(line for _, line in joined)
            self._add(Block("text", lines[0], text, lines=lines))
            self._text = []

    def _add(self, block: Block) -> None:
        self.sections[-1].blocks.append(block)

    def _add_text(self, number: int, line: str) -> None:
        if not line.strip() or _is_rule(line):
            self.flush()
        else:
            self._text.append((number, line))

    def _underlines(self, line: str) -> bool:
        """Whether a line makes a heading of the paragraph above it."""
        is_paragraph = self._text and not any(_STRUCTURE.match(part) for _, part in self._text)
        return bool(is_paragraph and _UNDERLINE.match(line))

    def _begin_section(self, level: int, text: str, index: int) -> None:
        self.flush()
        heading, name, attributes = _attributes_of(text.strip())
        self.sections.append(Section(plain(heading), level, index + 1, name, attributes))

    def _fenced_code(self, fence: re.Match[str]) -> None:
        mark, label = fence[1], fence[2].strip("{}. ").split(" ")[0]
        close = re.compile(rf"^\s*{re.escape(mark[0])}{{{len(mark)},}}\s*$")
        begin = self.at
        end = self._find(begin + 1, close, f"this block of code has no end; add {mark}")
        self.flush()
        text = "\n".join(self.lines[begin : end + 1])
        self._add(Block("code", begin + 1, text, label.lower(), range(begin + 1, end + 2)))
        self.at = end + 1

    def _fenced_block(self, mark: re.Match[str]) -> None:
        close = re.compile(rf"^ {{0,3}}:{{{len(mark[1])},}}[ \t]*$")
        begin = self.at
        end = self._find(begin + 1, close, f"this marked block has no end; add {mark[1]}")
        self.flush()
        inner = self.lines[begin + 1 : end] or [""]
        lines = range(begin + 2, begin + 2 + len(inner))
        self._add(Block("marked", begin + 1, "\n".join(inner), mark[2].lower(), lines))
        self.at = end + 1

    def _indented_block(self, label: str) -> None:
        begin = self.at
        self.at += 1
        inner = []
        while self.at < len(self.lines) and re.match(r"^(?: {4}|\t|\s*$)", self.lines[self.at]):
            inner.append(re.sub(r"^(?: {4}|\t)", "", self.lines[self.at]))
            self.at += 1
        self.flush()
        blank = next((i for i, line in enumerate(inner) if line), 0)
        text = "\n".join(inner[blank:]).rstrip("\n")
        first = begin + 2 + blank
        lines = range(first, first + text.count("\n") + 1)
        self._add(Block("marked", begin + 1, text, label.lower(), lines))

    def _find(self, begin: int, pattern: re.Pattern[str], missing: str) -> int:
        for index in range(begin, len(self.lines)):
            if pattern.match(self.lines[index]):
                return index
        raise InputError([Problem(f"{self.path}:{begin}:1", missing)])

    def _without_comments(self, line: str) -> str:
        """Leave HTML comments out of a line; of one that goes on, skip to its end."""
        if "<!--" not in line or _FENCE.match(line):
            return line
        kept = _COMMENT.sub(lambda match: match[1] or "", line)
        if "<!--" not in re.sub(r"`[^`]*`", "", kept):
            return kept
        begin = self.at
        end = self._find(begin + 1, re.compile(r".*-->"), "this comment has no end; add -->")
        self.at = end
        return kept.partition("<!--")[0] + self.lines[end].partition("-->")[2]


def flowed(lines: Sequence[str]) -> str:
    """Join the lines of a paragraph; lists, tables and quotations keep theirs.

    Args:
        lines: Lines that are not blank.
    """
    return "\n".join(line for _, line in _joined(list(enumerate(lines))))


def _joined(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Join the lines of a paragraph; each keeps the number of the line that it begins on."""
    joined: list[tuple[int, str]] = []
    for number, line in lines:
        is_table = bool(joined) and joined[-1][1].lstrip().startswith("|")
        if joined and not is_table and not _STRUCTURE.match(line):
            first, text = joined[-1]
            joined[-1] = first, f"{text} {' '.join(line.split())}"
        elif _STRUCTURE.match(line):
            joined.append((number, line.rstrip()))
        else:
            joined.append((number, " ".join(line.split())))
    return joined


def list_items(blocks: Sequence[Block]) -> list[tuple[int, str]]:
    """Return the outermost list items of some blocks, each with its line and all inside it.

    Args:
        blocks: The blocks.
    """
    items: list[tuple[int, str]] = []
    is_inside = False
    for block in blocks:
        lines = block.text.split("\n")
        for number, line in zip(block.lines, lines, strict=True):
            if match := re.match(r"^(?:[-*+]|\d+[.)])[ \t]+(.+)$", line):
                items.append((number, match[1]))
                is_inside = True
            elif is_inside and line.startswith((" ", "\t")):
                first, text = items[-1]
                items[-1] = (first, f"{text}\n{line}")
            else:
                is_inside = False
    return items


def plain(text: str) -> str:
    """Leave out the marks of links, images, code and emphasis.

    Args:
        text: The text of a heading.
    """
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\*\*|__|`|(?<!\w)[*_]|[*_](?!\w)|<[^<>]*>", "", text).strip()


def _attributes_of(text: str) -> tuple[str, str, dict[str, str]]:
    """Split a heading into its text, its id, and its other attributes."""
    match = _ATTRIBUTES.search(text)
    if match is None or _ATTRIBUTE.sub("", match[1]).strip():
        return text, "", {}
    name, attributes = "", {}
    for part in _ATTRIBUTE.findall(match[1]):
        if part.startswith("#"):
            name = name or part[1:]
        elif part.startswith("."):
            attributes[part[1:]] = ""
        else:
            key, _, value = part.partition("=")
            attributes[key] = value.strip("\"'")
    return text[: match.start()], name, attributes


def _is_rule(line: str) -> bool:
    return bool(re.match(r"^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$", line))
