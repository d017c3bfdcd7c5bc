"""A constitution as prose: a Markdown file whose sections become principles through default wordings.

A section is a heading with an optional id, ``## Do no harm {#harm}``, and the text below it. The text before the first
heading of level two is an introduction and is not a principle.
"""

from __future__ import annotations

import re
from pathlib import Path

from cai import templates
from cai.constitution.schema import Constitution, Principle
from cai.documents import read_text
from cai.errors import InputError, Problem

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*(?:\{#([A-Za-z0-9_./-]+)\})?\s*$")


def load_prose(path: Path) -> Constitution:
    """Read a Markdown constitution.

    Raises:
        InputError: for a file without sections, an empty section, or two sections of one id.
    """
    title, sections, problems = path.stem, list[tuple[str, str, int, list[str]]](), list[Problem]()
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if match := _HEADING.match(line):
            if len(match[1]) == 1:
                title = match[2]
            else:
                sections.append((match[3] or slug(match[2]), match[2], number, []))
        elif sections:
            sections[-1][3].append(line)
    principles: dict[str, Principle] = {}
    for name, heading, number, lines in sections:
        text = " ".join(" ".join(lines).split())
        if not text:
            problems.append(Problem(f"{path}:{number}:1", f"the section {heading!r} has no text"))
        elif name in principles:
            problems.append(
                Problem(
                    f"{path}:{number}:1",
                    f"a second section has the id {name!r}; give it another: {{#id}}",
                )
            )
        else:
            principles[name] = _principle(name, heading, text)
    if not principles and not problems:
        problems.append(
            Problem(
                f"{path}:1:1",
                'has no section; begin each with a line like "## Be honest {#honest}"',
            )
        )
    if problems:
        raise InputError(problems)
    weights = dict.fromkeys(principles, 1.0)
    return Constitution(
        name=path.stem,
        title=title,
        principles=principles,
        weights={"revise": weights, "judge": weights},
    )


def slug(text: str) -> str:
    """An id made of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _principle(name: str, heading: str, text: str) -> Principle:
    critique, revise, compare = (
        templates.render(f"prose_{use}", text=text) for use in ("critique", "revise", "compare")
    )
    return Principle(id=name, title=heading, critique=critique, revise=revise, compare=compare)
