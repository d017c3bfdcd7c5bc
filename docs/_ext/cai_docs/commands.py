"""The directive ``commands``: the help of every command, taken from the parser itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer.main
from sphinx.util.docutils import SphinxDirective

from cai.cli.app import app
from cai_docs.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes


class Commands(SphinxDirective):
    """``{commands}`` writes a section for each command."""

    def run(self) -> list[nodes.Node]:
        """Write Markdown for all commands and let Sphinx render it."""
        self.env.note_reread()
        return self.parse_text_to_nodes("\n".join(reference()), allow_section_headings=True)


def reference() -> Iterator[str]:
    """Yield the lines of the page, as Markdown."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("cai", [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.hidden:
            yield from _section(
                command, command.make_context(name, [], parent=context, resilient_parsing=True)
            )


def _section(command: Any, context: Any) -> Iterator[str]:
    path = context.command_path
    text, _, example = command.help.partition("Example:")
    yield from [f"## {path}", "", plain(" ".join(text.split())), ""]
    yield from ["```text", re.sub(r"^Usage: ", "", context.get_usage()), "```", ""]
    if example:
        yield from [f"Example: `{' '.join(example.split())}`", ""]
    yield from [f"`````{{program}} {path}", "`````", ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and parameter.name != "help":
            yield from [f"`````{{option}} {record[0]}", plain(record[1]), "`````", ""]
