"""The prompt templates of a model: the user's own files over a set that ships with the package.

There are two sets. The reference model was trained on its own wordings, so it reads those of
``cai/reference/templates``. Every other model reads the plain English of ``cai/templates``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cai import shipped
from cai.errors import InputError, Problem
from cai.keys import digest
from cai.templates.bounded import bounded

TemplateSet = Literal["default", "reference"]

_COMPARISON = ("conversation", "first", "second", "text")
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "critique": ("text",),
    "revise": ("text",),
    "judge": _COMPARISON,
    "judge_chain_of_thought": _COMPARISON,
    "judge_critique": ("text",),
    "judge_delimited": (*_COMPARISON, "delimiter"),
    "rate": ("conversation", "reply", "text", "delimiter"),
    "rubric": ("conversation", "reply", "text", "levels", "delimiter"),
    "together_critique": ("requests",),
    "together_compare": ("questions",),
    "prose_critique": ("text",),
    "prose_revise": ("text",),
    "prose_compare": ("text",),
}
"""The prompt templates by name, each with the variables that it must show."""

OPTIONAL_VARIABLES: Mapping[str, tuple[str, ...]] = {"judge_delimited": ("chain_of_thought",)}
"""Variables that a template may use and need not show."""

NAMES = tuple(VARIABLES)
"""The names of all prompt templates."""

OPTIONS: Mapping[str, tuple[str, str]] = {
    "judge": ("A", "B"),
    "judge_delimited": ("A", "B"),
    "judge_critique": ("Problem", "No problem"),
}
"""The templates whose answer is one of two options, with those of one that names none."""

ANSWERED = (*OPTIONS, "rate", "rubric", "critique", "revise")
"""The templates that may say how the answer to them begins."""

ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=False,
    autoescape=False,
)


@dataclass(frozen=True)
class Templates:
    """The prompt templates that one model is asked with.

    What people and models wrote is only ever a value of a template, never template source, so
    braces in anyone's text are shown as they are.

    Attributes:
        base: The shipped set to use: ``"default"``, or ``"reference"`` for the reference model.
        overrides: The source of each template that the user replaced, by its name.
    """

    base: TemplateSet = "default"
    overrides: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def for_model(cls, model: object, overrides: Mapping[str, str] | None = None) -> Templates:
        """Return the templates for the model that will read them.

        Args:
            model: The model to ask. Its attribute ``template_set`` names the shipped set; a model
                without this attribute gets the default set.
            overrides: The source of each template that the user replaced, by its name.
        """
        return cls(getattr(model, "template_set", "default"), overrides or {})

    def source(self, name: str) -> str:
        """Return the source of a template."""
        return self.overrides[name] if name in self.overrides else _shipped(self.base, name)

    def hash(self, name: str) -> str:
        """Return the digest of a template's source, as the records keep it."""
        return digest(self.source(name))

    def render(self, name: str, /, **values: object) -> str:
        """Fill a template.

        Args:
            name: The name of the template, one of :data:`NAMES`.
            **values: The template's variables, see :data:`VARIABLES`.

        Raises:
            InputError: if the template, which is then the user's, fails on these values.
        """
        try:
            with bounded() if name in self.overrides else nullcontext():
                return _compiled(self.source(name)).render(values).strip()
        except TemplateError as error:
            raise InputError([Problem(f"templates/{name}.jinja", str(error))]) from None

    def render_text(self, name: str, text: str) -> str:
        """Fill a template that shows one text. Results are cached, as the same few texts recur."""
        return _rendered_text(self, name, text)

    def options(self, name: str) -> tuple[str, str]:
        """Return the two answers that a template asks the model to choose from.

        A template names them with ``{% set options = ["Yes", "No"] %}``; the first one means that
        there is a problem, or that the first answer is better. Without such a line they are those
        in :data:`OPTIONS`.
        """
        named = setting_in(self.source(name), "options")
        return (str(named[0]), str(named[1])) if isinstance(named, list) else OPTIONS[name]

    def answer_prefix(self, name: str) -> str:
        """Return how the answer to a template begins, so that the model only continues it.

        A template says so with ``{% set answer = "The answer is: (" %}``; empty without such a
        line.
        """
        return str(setting_in(self.source(name), "answer") or "")

    def __hash__(self) -> int:
        return hash((self.base, *sorted(self.overrides.items())))


def template_path(base: TemplateSet, name: str) -> Path:
    """Return the file of a shipped template.

    A template that the reference set does not have is that of the default set.
    """
    of_reference = shipped.reference_templates() / f"{name}.jinja"
    if base == "reference" and of_reference.is_file():
        return of_reference
    return Path(__file__).with_name(f"{name}.jinja")


def template_set(model_name: str) -> TemplateSet:
    """Return the shipped set for a model that is given by its name.

    The reference set is for the reference model and for models trained from it, which keep its
    chat template.

    Args:
        model_name: ``reference``, a folder, a hub id, a server or a function.
    """
    if model_name == "reference":
        return "reference"
    mine = Path(model_name) / "chat_template.jinja"
    reference = shipped.reference_model() / "chat_template.jinja"
    same = mine.is_file() and mine.read_bytes().strip() == reference.read_bytes().strip()
    return "reference" if same else "default"


@lru_cache(maxsize=256)
def setting_in(source: str, name: str) -> object:
    """Return the value of ``{% set name = value %}`` in a template; None without such a line.

    Args:
        source: The source of the template.
        name: ``options`` or ``answer``.
    """
    for node in ENVIRONMENT.parse(source).find_all(nodes.Assign):
        value = node.node
        is_named = isinstance(node.target, nodes.Name) and node.target.name == name
        if is_named and isinstance(value, nodes.Expr):
            try:
                return value.as_const()
            except nodes.Impossible:
                return None
    return None


def combined_hash(names: Iterable[str], overrides: Mapping[str, str]) -> str:
    """Return the digest of some templates in both sets.

    Args:
        names: The names of the templates.
        overrides: The source of each template that the user replaced, by its name.
    """
    sets = [Templates(base, overrides) for base in get_args(TemplateSet)]
    return digest([templates.hash(name) for templates in sets for name in names])


@cache
def _shipped(base: TemplateSet, name: str) -> str:
    return template_path(base, name).read_text(encoding="utf-8")


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return ENVIRONMENT.from_string(source)


@lru_cache(maxsize=4096)
def _rendered_text(templates: Templates, name: str, text: str) -> str:
    return templates.render(name, text=text)


DEFAULT = Templates()
"""The shipped templates for any model but the reference model."""
REFERENCE = Templates("reference")
"""The shipped templates for the reference model."""
