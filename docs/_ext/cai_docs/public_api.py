"""The directive ``public-api``: the public names of ``cai``, and the types in their signatures."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import cai
from cai_docs import records
from cai_docs.annotations import mentioned_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


logger = logging.getLogger(__name__)


class PublicApi(SphinxDirective):
    """``{public-api} cai.data`` documents what is defined in the package.

    Each line of the content names one more object.
    """

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write an autodoc directive for each object and let Sphinx render it."""
        self.env.note_reread()
        groups = objects_of(
            self.arguments[0].split(), [line.strip() for line in self.content if line.strip()]
        )
        lines = [line for title, names in groups.items() if names for line in _group(title, names)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def objects_of(packages: list[str], more: list[str]) -> dict[str, list[str]]:
    """Return the dotted names of the objects to document, by the title of their section.

    Args:
        packages: Packages in which the objects are defined.
        more: Dotted names of further objects.
    """
    public = {
        id(value): f"cai.{name}"
        for name in cai.__all__
        if _is_inside(value := getattr(cai, name), packages)
    }
    functions = {name for name in public.values() if not inspect.isclass(_object(name))}
    further = {
        f"{kind.__module__}.{kind.__qualname__}": kind
        for kind in mentioned_types()
        if _is_inside(kind, packages)
    }
    further |= {name: _object(name) for name in more}
    return {
        "Functions": sorted(functions),
        "Classes": sorted(set(public.values()) - functions),
        "Types in these signatures": sorted(
            name for name, value in further.items() if id(value) not in public
        ),
    }


def _group(title: str, names: list[str]) -> Iterator[str]:
    # autodoc writes reStructuredText, which needs a block of its own in a Markdown page
    yield from [
        f"## {title}",
        "",
        "```{eval-rst}",
        *(line for name in names for line in _autodoc(name)),
        "```",
        "",
    ]


def _is_inside(value: object, packages: list[str]) -> bool:
    module = getattr(value, "__module__", None) or ""
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _object(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _autodoc(name: str) -> list[str]:
    value = _object(name)
    if not inspect.isclass(value):
        directive = "autofunction" if inspect.isfunction(value) else "autodata"
        return [f".. {directive}:: {name}", ""]
    if records.is_record(value):
        return records.autodoc(name, value)
    directive = "autoexception" if issubclass(value, BaseException) else "autoclass"
    return [f".. {directive}:: {name}", "   :members:", "   :undoc-members:", ""]


def check_complete(_app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that are on no page."""
    documented = env.domains.python_domain.objects
    missing = [name for name in cai.__all__ if f"cai.{name}" not in documented]
    if missing:
        logger.warning("missing from the API reference: %s", ", ".join(missing))
