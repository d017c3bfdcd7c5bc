"""All settings of a run or training file as YAML: what each means, its default, and what it may be."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from cai.config import Section

WIDTH = 110
_BOUNDS = {"minimum": ">= ", "exclusiveMinimum": "> ", "maximum": "<= ", "exclusiveMaximum": "< "}


def settings_text(kind: type[Section], section: str = "") -> str:
    """A file with every setting at its default, or one section of it; it can be read back, once what must be given is filled in."""
    return "\n".join(_lines(kind, section)).lstrip("\n") + "\n"


class Setting(NamedTuple):
    """One setting: what it means, its default as YAML (None where a value must be given), and what values it may have."""

    name: str
    meaning: str
    default: str | None
    allowed: str


def setting_of(kind: type[BaseModel], name: str, section: object = None) -> Setting:
    """A setting of ``kind``; ``section`` holds the defaults that a file gives to the section, where they are not its own."""
    field = kind.model_fields[name]
    allowed = _may_be(kind.model_json_schema()["properties"][name])
    default = None if field.is_required() else _written(getattr(section, name, field.default))
    return Setting(name, described(kind).get(name, ""), default, allowed)


def subsection_of(kind: type[BaseModel], name: str) -> type[Section] | None:
    """The section that a key holds, or None where it holds a value."""
    annotation = kind.model_fields[name].annotation
    return annotation if inspect.isclass(annotation) and issubclass(annotation, Section) else None


def _lines(
    kind: type[BaseModel], only: str = "", indent: str = "", section: object = None
) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if only and name != only:
            continue
        if subsection := subsection_of(kind, name):
            yield from ["", *_comment(subsection.__doc__ or "", ""), f"{name}:"]
            yield from _lines(subsection, indent="  ", section=field.default)
            continue
        setting = setting_of(kind, name, section)
        yield from _comment(setting.meaning, indent)
        if setting.default is None:
            yield f"{indent}{name}:  # must be given"
        else:
            yield f"{indent}{name}: {setting.default}  # {setting.allowed}".removesuffix("  # ")


def _comment(text: str, indent: str) -> list[str]:
    return [
        f"{indent}# {line}"
        for line in textwrap.wrap(text.replace("``", "`"), WIDTH, break_on_hyphens=False)
    ]


def _may_be(schema: dict[str, Any]) -> str:
    """What a value may be, in few words, from its JSON schema."""
    return ", ".join(filter(None, map(_kind, schema.get("anyOf", [schema]))))


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(_written, schema["enum"]))
    if (schema.get("minimum"), schema.get("maximum")) == (0, 1):
        return "0 to 1"
    named = {"null": "or null", "array": "a list", "object": "by name"}.get(
        schema.get("type", ""), ""
    )
    return named or ", ".join(
        sign + f"{schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema
    )


def _written(value: object) -> str:
    """A value as YAML and JSON both read it, bare where it is a plain word."""
    if (
        isinstance(value, str)
        and value.isidentifier()
        and value not in ("true", "false", "null", "yes", "no", "on", "off")
    ):
        return value
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{value:.1e}"
    return json.dumps(value)


@cache
def described(kind: type[BaseModel]) -> dict[str, str]:
    """What stands under each field of a section in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for one, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and isinstance(after, ast.Expr)
        ):
            found[one.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found
