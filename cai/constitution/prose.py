"""A constitution in prose: a Markdown file whose sections become principles.

A section is a heading with an optional id, such as ``## Do no harm {#harm}``, and the text below
it. The ``prose_*`` templates turn this text into a critique, a revision and a comparison request.
Text before the first heading of level two is an introduction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cai.constitution.schema import Constitution, Principle
from cai.documents import read_text
from cai.errors import InputError, Problem
from cai.templates import Templates

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*(?:\{#([A-Za-z0-9_./-]+)\})?\s*$")


@dataclass
class _Section:
    """A section of a Markdown file, with the number of its heading's line."""

    id: str
    heading: str
    line: int
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The section's text on one line."""
        return " ".join(" ".join(self.lines).split())


def load_prose(path: Path, overrides: Mapping[str, str] | None = None) -> Constitution:
    """Read a Markdown constitution.

    Args:
        path: The file.
        overrides: The source of each template that the project replaces, by its name.

    Raises:
        InputError: for a file without sections, an empty section, or two sections with one id.
    """
    title, sections = _sections(path)
    templates = Templates("default", overrides or {})
    principles: dict[str, Principle] = {}
    problems: list[Problem] = []
    for section in sections:
        where = f"{path}:{section.line}:1"
        if not section.text:
            problems.append(Problem(where, f"the section {section.heading!r} has no text"))
        elif section.id in principles:
            text = f"a second section has the id {section.id!r}; give it another: {{#id}}"
            problems.append(Problem(where, text))
        else:
            principle = Principle(id=section.id, title=section.heading, rule=section.text)
            principles[section.id] = principle.worded_by(templates)
    if not sections:
        text = 'has no section; begin each with a line like "## Be honest {#honest}"'
        problems.append(Problem(f"{path}:1:1", text))
    if problems:
        raise InputError(problems)
    weights = dict.fromkeys(principles, 1.0)
    return Constitution(
        name=path.stem,
        title=title,
        principles=principles,
        weights={"revise": weights, "judge": weights},
        templates=templates.overrides,
    )


def slug(text: str) -> str:
    """Make an id of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _sections(path: Path) -> tuple[str, list[_Section]]:
    """Split a Markdown file into its title and its sections."""
    title = path.stem
    sections: list[_Section] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        match = _HEADING.match(line)
        if match is None:
            if sections:
                sections[-1].lines.append(line)
        elif len(match[1]) == 1:
            title = match[2]
        else:
            sections.append(_Section(match[3] or slug(match[2]), match[2], number))
    return title, sections
