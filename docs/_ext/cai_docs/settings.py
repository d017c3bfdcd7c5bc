"""The directive ``settings``: every setting of a run file or a training file."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from cai.config import RunConfig, TrainingConfig
from cai.config.describe import Setting, mapping_entry_of, setting_of, subsection_of
from cai.config.suite import Suite, SuiteSampling
from cai.config.suite_files import GRADER_KINDS
from cai_docs.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from pydantic import BaseModel

FILES = {"run": RunConfig, "training": TrainingConfig}


class Settings(SphinxDirective):
    """``{settings} run`` lists the settings of a run file.

    ``{settings} training`` lists those that only a training file has, ``{settings} suite`` those of
    a suite, whose graders each have their own.
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write Markdown for the file and let Sphinx render it."""
        self.env.note_reread()
        return self.parse_text_to_nodes(
            "\n".join(reference(self.arguments[0])), allow_section_headings=True
        )


def reference(file: str) -> Iterator[str]:
    """Yield the lines of the list, as Markdown."""
    if file == "suite":
        yield from _suite()
        return
    known = {} if file == "run" else dict(_settings(RunConfig))
    section = None
    for path, setting in _settings(FILES[file]):
        if known.get(path) == setting:
            continue
        if path.rpartition(".")[0] != section:
            section = path.rpartition(".")[0]
            about = plain(_about(FILES[file], section))
            yield from [f"### {section or 'Top level'}", "", about, ""]
        yield from _entry(path, setting, again=path in known)


def _suite() -> Iterator[str]:
    """Yield the settings of a suite, and of each grader."""
    for name in (name for name in Suite.model_fields if name not in ("grader", "sampling")):
        yield from _entry(name, setting_of(Suite, name), again=True)
    sections = {"sampling": SuiteSampling}
    sections |= {f"grader.{name}": kind for name, kind in GRADER_KINDS.items()}
    for path, kind in sections.items():
        yield from [f"### {path}", "", plain(inspect.getdoc(kind) or ""), ""]
        for name in kind.model_fields:
            if name != "kind":
                yield from _entry(f"{path}.{name}", setting_of(kind, name), again=True)


def _settings(
    kind: type[BaseModel], prefix: str = "", section: object = None
) -> Iterator[tuple[str, Setting]]:
    """Yield all settings of a file by their dotted names, those without a section first."""
    names = sorted(kind.model_fields, key=lambda name: subsection_of(kind, name) is not None)
    for name in names:
        if subsection := subsection_of(kind, name):
            yield from _settings(subsection, f"{prefix}{name}.", kind.model_fields[name].default)
        else:
            yield prefix + name, setting_of(kind, name, section)
    for name in names:
        if entry := mapping_entry_of(kind, name):
            yield from _settings(entry, f"{prefix}{name}.NAME.")


def _about(kind: type[BaseModel], section: str) -> str:
    """Return the docstring of a section; the page itself describes the file as a whole."""
    if not section:
        return ""
    for name in section.split("."):
        if name not in kind.model_fields:  # a name in a mapping
            continue
        kind = subsection_of(kind, name) or mapping_entry_of(kind, name) or kind
    return kind.__doc__ or ""


def _entry(path: str, setting: Setting, *, again: bool) -> Iterator[str]:
    """Yield the entry of a setting.

    Args:
        path: Its dotted name.
        setting: Its description.
        again: Whether the other file has a setting of this name, which owns the anchor.
    """
    yield from [
        f"`````{{confval}} {path}",
        *([":no-index:"] if again else []),
        "",
        plain(setting.meaning),
        "",
    ]
    default = "Required" if setting.default is None else f"Default: `{setting.default}`"
    yield from [
        f"{default} · Allowed: `{setting.allowed}`" if setting.allowed else default,
        "`````",
        "",
    ]
