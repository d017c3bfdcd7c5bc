"""``settings``: every setting of a run file or a training file, from the sections themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from cai.config import RunConfig, TrainingConfig
from cai.config.describe import Setting, setting_of, subsection_of
from cai_docs.markdown import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from pydantic import BaseModel

FILES = {"run": RunConfig, "training": TrainingConfig}


class Settings(SphinxDirective):
    """``{settings} run`` lists a run file; ``{settings} training`` what a training file has besides."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write Markdown for the file and let Sphinx render it."""
        self.env.note_reread()
        return self.parse_text_to_nodes(
            "\n".join(reference(self.arguments[0])), allow_section_headings=True
        )


def reference(file: str) -> Iterator[str]:
    """The lines of the list, as Markdown."""
    known = {} if file == "run" else dict(_settings(RunConfig))
    section = None
    for path, setting in _settings(FILES[file]):
        if known.get(path) == setting:
            continue
        if (head := path.rpartition(".")[0]) != section:
            section = head
            yield from [f"### {head or 'Top level'}", "", plain(_about(FILES[file], head)), ""]
        yield from _entry(path, setting, again=path in known)


def _settings(
    kind: type[BaseModel], prefix: str = "", section: object = None
) -> Iterator[tuple[str, Setting]]:
    """All settings of a file by their dotted names, those of the file itself first."""
    names = sorted(kind.model_fields, key=lambda name: subsection_of(kind, name) is not None)
    for name in names:
        if subsection := subsection_of(kind, name):
            yield from _settings(subsection, f"{prefix}{name}.", kind.model_fields[name].default)
        else:
            yield prefix + name, setting_of(kind, name, section)


def _about(kind: type[BaseModel], section: str) -> str:
    """The docstring of a section; the page itself says what a file as a whole is."""
    if not section:
        return ""
    for name in section.split("."):
        kind = subsection_of(kind, name) or kind
    return kind.__doc__ or ""


def _entry(path: str, setting: Setting, *, again: bool) -> Iterator[str]:
    """``again``: the other file has a setting of this name, which owns the anchor."""
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
