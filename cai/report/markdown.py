"""Pages in Markdown: their templates, and texts of others that must stay where they are put."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cai.report.tables import percent


def markdown_environment() -> Environment:
    """Return what renders the ``.md.jinja`` files beside this module."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown; what others wrote goes through the filter
    )
    environment.filters |= {"plain": plain, "percent": percent}
    return environment


def plain(text: str) -> str:
    """Keep a text of others on its line, and in its cell of a table."""
    text = " ".join(text.split())
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text
