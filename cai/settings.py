"""All settings of a run or training file as YAML: what each means, its default, and what it may be."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import BaseModel

from cai.config import Section

WIDTH = 110
_BOUNDS = {"minimum": ">= ", "exclusiveMinimum": "> ", "maximum": "<= ", "exclusiveMaximum": "< "}


def settings_text(kind: type[Section], section: str = "") -> str:
    """A file with every setting at its default, or one section of it; it can be read back, once what must be given is filled in."""
    return "\n".join(_lines(kind, section)).lstrip("\n") + "\n"


def _lines(kind: type[BaseModel], section: str = "", indent: str = "", usual: object = None) -> Iterator[str]:
    """``usual`` is a section with the defaults that its file gives it, where they are not its own."""
    schema = kind.model_json_schema()
    for name, field in kind.model_fields.items():
        if section and name != section:
            continue
        annotation = field.annotation
        if inspect.isclass(annotation) and issubclass(annotation, Section):
            yield from ["", *_comment(annotation.__doc__ or "", ""), f"{name}:"]
            yield from _lines(annotation, indent="  ", usual=field.default)
            continue
        yield from _comment(described(kind).get(name, ""), indent)
        if field.is_required():
            yield f"{indent}{name}:  # must be given"
        else:
            said = f"{name}: {_written(getattr(usual, name, field.default))}  # {_may_be(schema['properties'][name])}"
            yield indent + said.removesuffix("  # ")


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(text.replace("``", "`"), WIDTH, break_on_hyphens=False)]


def _may_be(schema: dict[str, Any]) -> str:
    """What a value may be, in few words, from its JSON schema."""
    return ", ".join(filter(None, map(_kind, schema.get("anyOf", [schema]))))


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(_written, schema["enum"]))
    if (schema.get("minimum"), schema.get("maximum")) == (0, 1):
        return "0 to 1"
    named = {"null": "or null", "array": "a list", "object": "by name"}.get(schema.get("type", ""), "")
    return named or ", ".join(sign + f"{schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema)


def _written(value: object) -> str:
    """A value as YAML and JSON both read it, bare where it is a plain word."""
    if isinstance(value, str) and value.isidentifier() and value not in ("true", "false", "null", "yes", "no", "on", "off"):
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
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(after, ast.Expr):
            found[one.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found
