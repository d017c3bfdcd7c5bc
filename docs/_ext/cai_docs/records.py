"""Document the fields of pydantic models, dataclasses and named tuples.

Each field has its type, default and meaning. Autodoc itself resolves the annotations of dataclasses
only, and shows the bounds of a pydantic field as part of its type.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

MAX_DEFAULT_LENGTH = 30


class Field(NamedTuple):
    """A field of a record.

    Attributes:
        name: Its name.
        annotation: Its type.
        default: Its default as code; empty if it is required, ``...`` if too long to show.
    """

    name: str
    annotation: Any
    default: str


def is_record(kind: object) -> bool:
    """Return whether a class takes its fields as arguments."""
    return inspect.isclass(kind) and (
        issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
    )


def autodoc(name: str, kind: type) -> list[str]:
    """Return the directive of a record, with its fields unless the docstring describes them."""
    methods = [
        member
        for member in vars(kind)
        if not member.startswith("_") and _is_method(vars(kind)[member])
    ]
    lines = [f".. autoclass:: {name}", f"   :members: {', '.join(methods)}" if methods else "", ""]
    if "Attributes:" not in (kind.__doc__ or ""):
        meanings = _meanings(kind)
        for field in _fields(kind):
            lines += _entry(field, meanings.get(field.name, ""))
    return lines


def signature(
    _app: Sphinx, what: str, _name: str, kind: Any, *_rest: Any
) -> tuple[str, None] | None:
    """Return the signature of a record without types, which are shown with the fields."""
    if what != "class" or not is_record(kind):
        return None
    fields = [
        f"{field.name}={field.default}" if field.default else field.name for field in _fields(kind)
    ]
    if issubclass(kind, BaseModel):
        fields.insert(0, "*")
    return f"({', '.join(fields)})", None


def _meanings(kind: type) -> dict[str, str]:
    """Return the docstring under each field of a class, by name."""
    docs = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
    return {
        name: " ".join(lines).strip()
        for (owner, name), lines in docs.items()
        if owner == kind.__qualname__
    }


def _is_method(member: object) -> bool:
    return isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)


def _fields(kind: Any) -> Iterator[Field]:
    if issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            yield Field(name, info.annotation, "" if info.is_required() else _short(info.default))
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            required = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            yield Field(field.name, hints[field.name], "" if required else _short(field.default))
    else:
        hints = typing.get_type_hints(kind)
        defaults = kind._field_defaults
        for name in kind._fields:
            yield Field(name, hints[name], _short(defaults[name]) if name in defaults else "")


def _short(default: object) -> str:
    text = repr(default)
    has_factory = default in (PydanticUndefined, dataclasses.MISSING)
    is_readable = len(text) <= MAX_DEFAULT_LENGTH and not text.startswith("<")
    return text if is_readable and not has_factory else "..."


def _entry(field: Field, meaning: str) -> list[str]:
    # get_type_hints strips the bounds and validators of Annotated
    holder = SimpleNamespace(__annotations__={"field": field.annotation})
    bare = typing.get_type_hints(holder)["field"]
    lines = [
        f"   .. attribute:: {field.name}",
        f"      :type: {stringify_annotation(bare, 'smart')}",
    ]
    if field.default not in ("", "..."):
        lines.append(f"      :value: {field.default}")
    return [*lines, "", f"      {meaning}", ""]
