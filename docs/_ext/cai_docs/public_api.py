"""``public-api``: document every public name of ``cai``, and the types that their signatures mention."""

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
    """``{public-api} cai.data``: what is defined in the package. A line of the content names one more object."""

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
    """Dotted names: the public functions, the public classes, and what their signatures mention besides."""
    public = {
        id(value): f"cai.{name}"
        for name in cai.__all__
        if _is_inside(value := getattr(cai, name), packages)
    }
    functions = {name for name in public.values() if not inspect.isclass(_object(name))}
    besides = {
        f"{t.__module__}.{t.__qualname__}": t for t in mentioned_types() if _is_inside(t, packages)
    }
    besides |= {name: _object(name) for name in more}
    return {
        "Functions": sorted(functions),
        "Classes": sorted(set(public.values()) - functions),
        "Types in these signatures": sorted(
            name for name, value in besides.items() if id(value) not in public
        ),
    }


def _group(title: str, names: list[str]) -> Iterator[str]:
    # autodoc writes reStructuredText, so it needs a block of it inside a Markdown page
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
        return [
            f".. autofunction:: {name}" if inspect.isfunction(value) else f".. autodata:: {name}",
            "",
        ]
    if records.is_record(value):
        return records.autodoc(name, value)
    kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    return [f".. {kind}:: {name}", "   :members:", "   :undoc-members:", ""]


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name is on some page."""
    documented = env.domains.python_domain.objects
    missing = [name for name in cai.__all__ if f"cai.{name}" not in documented]
    if missing:
        logger.warning("on no page of the API reference: %s", ", ".join(missing))
