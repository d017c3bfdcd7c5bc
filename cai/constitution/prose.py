"""A constitution in prose: a Markdown file whose sections become principles.

A section is a heading with an optional id, such as ``## Do no harm {#harm}``, and the text below
it. The ``prose_*`` templates turn this text into a critique, a revision and a comparison request.
A section with sections inside is a group. Its own text, if it has one, is a principle too. The id
of a section without one of its own begins with that of its group: ``care/children``.

The first heading is the title if no other is on its level; the text below it is an introduction.
In a file without other headings each item of its lists is a principle.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, get_args

from cai.constitution.markdown import Block, Markdown, Section, flowed, list_items, parse
from cai.constitution.marked_examples import without_examples
from cai.constitution.schema import Constitution, Example, FrontMatter, Principle, Selection, Use
from cai.constitution.selection import select
from cai.constitution.slugs import slug
from cai.documents import Document, read_text, validated
from cai.documents import parse as parse_yaml
from cai.errors import InputError, Problem
from cai.templates import Templates

_EXCLUDED = "exclude"
_SIMILAR = 0.8
"""Similarity from which a key of the front matter counts as a misspelled one."""
_LISTED = 5
"""Places that a note names."""
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^()\s]*)(?:\s+\"[^\"]*\")?\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\([^()]*\)")
_SENTENCE_END = re.compile(r"[.!?…](?=\s)|[。！？।؟]")


class Prose(NamedTuple):
    """A constitution in Markdown as it was read.

    Attributes:
        constitution: The constitution.
        notes: What models will not read.
        lines: The line that each principle's heading or list item begins on, by id.
    """

    constitution: Constitution
    notes: list[Problem]
    lines: Mapping[str, int]


@dataclass
class _Rule:
    """A part of the file that becomes a principle.

    Attributes:
        id: The id of the principle.
        path: The id with those of all its groups.
        section: Its heading and its text.
        groups: The groups that it is in, the outermost first.
    """

    id: str
    path: str
    section: Section
    groups: list[Section] = field(default_factory=list)


def read_prose(path: Path, overrides: Mapping[str, str] | None = None) -> Prose:
    """Read a Markdown constitution, and say what models will not read of it.

    Args:
        path: The file.
        overrides: The source of each template that the project replaces, by its name.

    Raises:
        InputError: for a file without sections, an empty section, two sections with one id, an
            invalid weight, front matter or example.
    """
    return parse_prose(path, read_text(path), overrides)


def parse_prose(path: Path, text: str, overrides: Mapping[str, str] | None = None) -> Prose:
    """Read the text of a Markdown constitution, as :func:`read_prose` reads a file.

    Args:
        path: The file that the text is from.
        text: The text.
        overrides: The source of each template that the project replaces, by its name.

    Raises:
        InputError: as :func:`read_prose` does.
    """
    markdown = parse(str(path), text)
    return _Reader(path, markdown, Templates("default", overrides or {})).read()


class _Reader:
    """Makes principles of the sections of a file, and collects problems on the way."""

    def __init__(self, path: Path, markdown: Markdown, templates: Templates) -> None:
        self.path = path
        self.templates = templates
        self.problems: list[Problem] = []
        self.document, self.front = _front_matter(path, markdown)
        self.title, self.rules = _rules(path, markdown.sections)
        self.headings = {rule.id: rule.section.heading for rule in self.rules}
        self.principles: dict[str, Principle] = {}
        self.weights: dict[str, float] = {}
        self.unpaired: list[int] = []

    def read(self) -> Prose:
        """Return the constitution; raises an error with all problems."""
        for rule in self.rules:
            self._add(rule)
        if not self.rules:
            text = 'has no section; begin each with a line like "## Be honest {#honest}"'
            self.problems.append(Problem(f"{self.path}:1:1", text))
        weights = {use: self._selected(use) for use in get_args(Use)}
        if self.problems:
            raise InputError(self.problems)
        constitution = Constitution(
            name=self.path.stem,
            title=self.front.title or self.title,
            principles=self.principles,
            weights=weights,
            templates=self.templates.overrides,
        )
        lines = {rule.id: rule.section.line for rule in self.rules if rule.id in self.principles}
        return Prose(constitution, self._notes(), lines)

    def _selected(self, use: Use) -> dict[str, float]:
        """Return the weights for one use; the front matter wins over the headings."""
        selection: Selection = getattr(self.front, use)
        if not selection.principles:
            selection = selection.model_copy(update={"principles": ("*",)})
        names = {rule.id: (rule.id, rule.path) for rule in self.rules if rule.id in self.weights}
        weights: dict[str, float] = {}
        if names:
            self.problems += select(weights, names, selection, self.document, use)
        unweighed = (n for n in weights if not _is_weighed(names[n], selection))
        return weights | {name: self.weights[name] for name in unweighed}

    def _add(self, rule: _Rule) -> None:
        """Make a principle of a section."""
        where = f"{self.path}:{rule.section.line}:1"
        try:
            blocks, examples, unpaired = without_examples(self.path, rule.section.blocks)
        except InputError as error:
            self.problems += error.problems
            return
        self.unpaired += unpaired
        text = self._text(blocks)
        if not text and self._is_group(rule):
            return
        if not text:
            message = f"the section {rule.section.heading!r} has no text"
            self.problems.append(Problem(where, message))
        elif rule.id in self.principles:
            message = f"a second section has the id {rule.id!r}; give it another: {{#id}}"
            self.problems.append(Problem(where, message))
        else:
            self.principles[rule.id] = self._principle(rule, text, examples)
            self._weigh(rule, where)

    def _is_group(self, rule: _Rule) -> bool:
        return any(rule.section in other.groups for other in self.rules)

    def _principle(self, rule: _Rule, text: str, examples: Sequence[Example]) -> Principle:
        read = extract(text, self.front.max_characters)
        return Principle(
            id=rule.id,
            title=rule.section.heading,
            rule=read,
            left_out=len(text) - len(read),
            examples=tuple(examples),
        ).worded_by(self.templates)

    def _text(self, blocks: Sequence[Block]) -> str:
        """Return what models may read of some blocks, with links as their words."""
        parts = []
        for block in blocks:
            text = block.text
            if block.kind == "marked":
                text = flowed([line for line in text.split("\n") if line.strip()])
            if block.kind != "code":
                text = _LINK.sub(self._linked, _IMAGE.sub("", text)).rstrip()
            parts.append(text)
        return "\n\n".join(part for part in parts if part.strip()).strip()

    def _linked(self, link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        return self.headings.get(target.removeprefix("#"), target) if text in ("", "?") else text

    def _weigh(self, rule: _Rule, where: str) -> None:
        """Set the weights that the nearest heading names; an excluded section has none."""
        sections = [*rule.groups, rule.section]
        if any(_EXCLUDED in section.attributes for section in sections):
            return
        given = [s.attributes["weight"] for s in sections if "weight" in s.attributes]
        try:
            weight = float(given[-1]) if given else 1.0
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            message = f"weight must be a finite number of at least 0, not {given[-1]!r}"
            self.problems.append(Problem(where, message))
            return
        self.weights[rule.id] = weight

    def _notes(self) -> list[Problem]:
        notes = []
        shortened = [rule for rule in self.rules if self._left_out(rule)]
        if shortened:
            limit = self.front.max_characters
            text = (
                f"{_of(len(shortened), 'section')} longer than {limit:,} characters; models read "
                f"the first paragraphs, as cai preview shows: "
                f"{_places([rule.section.line for rule in shortened])}"
            )
            notes.append(Problem(str(self.path), text))
        if self.unpaired:
            text = (
                f"{_of(len(self.unpaired), 'conversation')} not used as an example, for want of "
                "one turn of the user, a good answer and a bad one: "
                f"{_places(self.unpaired)}"
            )
            notes.append(Problem(str(self.path), text))
        return notes

    def _left_out(self, rule: _Rule) -> int:
        principle = self.principles.get(rule.id)
        return principle.left_out if principle else 0


def _is_weighed(names: Sequence[str], selection: Selection) -> bool:
    return any(fnmatch.filter(names, pattern) for pattern in selection.weights)


def extract(text: str, limit: int) -> str:
    """Return the first paragraphs of a text that fit, or its first sentences if these are more.

    Args:
        text: The text.
        limit: Maximum number of characters; 0: all.
    """
    if not limit or len(text) <= limit:
        return text
    end = text.rfind("\n\n", 0, limit + 1)
    while end > 0 and text[:end].endswith(":"):  # it announces what does not fit
        end = text.rfind("\n\n", 0, end)
    if end < limit // 2:  # the next paragraph is long, so a part of it is read
        ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, limit)]
        end = ends[-1] if ends else max(text.rfind(" ", 0, limit + 1), 0) or limit
    return text[:end].rstrip()


def _of(count: int, thing: str) -> str:
    return f"{count:,} {thing}s are" if count > 1 else f"1 {thing} is"


def _places(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_LISTED]))
    rest = len(lines) - _LISTED
    return f"line{'s' if len(lines) > 1 else ''} {shown}{f' and {rest} more' if rest > 0 else ''}"


def _front_matter(path: Path, markdown: Markdown) -> tuple[Document, FrontMatter]:
    """Read the known keys of the front matter."""
    if not markdown.front_matter.strip():
        return Document(path, {}, {}), FrontMatter()
    document = parse_yaml(path, markdown.front_matter)
    if not isinstance(document.value, dict):
        raise InputError([Problem(document.where(), "the front matter must have keys and values")])
    known = FrontMatter.model_fields
    for key in [key for key in document.value if key not in known]:
        near = difflib.get_close_matches(key, known, n=1, cutoff=_SIMILAR)
        if near:
            text = f"unknown key {key!r} (did you mean {near[0]!r}?)"
            raise InputError([Problem(document.where((key,)), text)])
        del document.value[key]
    return document, validated(FrontMatter, document)


def _rules(path: Path, sections: Sequence[Section]) -> tuple[str, list[_Rule]]:
    """Find the title of a file and the sections that become principles."""
    before, *headed = sections
    title = path.stem
    is_only_one = len(headed) == 1 and headed[0].level > 1
    if headed and not is_only_one and all(s.level > headed[0].level for s in headed[1:]):
        title = headed[0].heading
        before, *headed = headed
    if not headed:
        return title, [_rule_of_item(*item) for item in list_items(before.blocks)]
    rules: list[_Rule] = []
    groups: list[_Rule] = []
    for section in headed:
        while groups and groups[-1].section.level >= section.level:
            groups.pop()
        own = section.id or slug(section.heading) or f"section-{len(rules) + 1:02}"
        name = section.id or (f"{groups[-1].id}/{own}" if groups else own)
        full = f"{groups[-1].path}/{own}" if groups else own
        rules.append(_Rule(name, full, section, [group.section for group in groups]))
        groups.append(rules[-1])
    return title, rules


def _rule_of_item(line: int, text: str) -> _Rule:
    heading = " ".join(text.split("\n")[0].split())
    name = slug(heading) or f"line-{line}"
    return _Rule(name, name, Section(heading, 1, line, blocks=[Block("text", line, text)]))
