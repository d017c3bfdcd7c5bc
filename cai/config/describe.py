"""The settings of a file as YAML with comments, or as a JSON schema."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from cai.config.base import Section

WIDTH = 100
_BOUNDS = {"minimum": ">= ", "exclusiveMinimum": "> ", "maximum": "<= ", "exclusiveMaximum": "< "}
_TYPES = {"string": "text", "number": "a number"}
_PLURALS = {"string": "texts", "number": "numbers"}
_YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: Its key.
        meaning: What it does, as one sentence.
        default: Its default as YAML; None if a value must be given.
        allowed: The values it may have; empty if its type says enough.
    """

    name: str
    meaning: str
    default: str | None
    allowed: str


def settings_text(kind: type[Section], section: str = "") -> str:
    """Every setting of a file, or of one section of it, as YAML with comments.

    The text can be read back once the required values are filled in.

    Args:
        kind: ``RunConfig`` or ``TrainingConfig``.
        section: A section or setting to print alone; empty: all.
    """
    return "\n".join(_lines(kind, section)).lstrip("\n") + "\n"


def json_schema(kind: type[Section]) -> dict[str, Any]:
    """The JSON schema of a file, for editors that complete and check YAML by a schema.

    Args:
        kind: ``RunConfig`` or ``TrainingConfig``.
    """
    schema = kind.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def setting_of(kind: type[BaseModel], name: str, section: object = None) -> Setting:
    """One setting of a section.

    Args:
        kind: The section.
        name: The setting's key.
        section: An instance that has the defaults, if they are not those of the class.
    """
    field = kind.model_fields[name]
    whole = kind.model_json_schema()
    allowed = _allowed(_resolved(whole["properties"][name], whole.get("$defs", {})))
    default = (
        None
        if field.is_required()
        else _yaml(getattr(section, name, field.get_default(call_default_factory=True)))
    )
    return Setting(name, described(kind).get(name, ""), default, allowed)


def subsection_of(kind: type[BaseModel], name: str) -> type[Section] | None:
    """The section under a key, or None if the key has a plain value."""
    annotation = kind.model_fields[name].annotation
    return annotation if inspect.isclass(annotation) and issubclass(annotation, Section) else None


def mapping_entry_of(kind: type[BaseModel], name: str) -> type[Section] | None:
    """The section under each name of a mapping, or None if the key has something else."""
    field = kind.model_fields.get(name)
    values = get_args(field.annotation) if field and get_origin(field.annotation) is Mapping else ()
    entry = values[-1] if values else None
    return entry if inspect.isclass(entry) and issubclass(entry, Section) else None


def described(kind: type[BaseModel]) -> dict[str, str]:
    """The descriptions of a model's fields, by name; those without one are left out."""
    descriptions = {name: field.description for name, field in kind.model_fields.items()}
    return {name: " ".join(text.split()) for name, text in descriptions.items() if text}


def _lines(
    kind: type[BaseModel], only: str = "", indent: str = "", section: object = None
) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if only and name != only:
            continue
        subsection = subsection_of(kind, name)
        if subsection is not None:
            yield from ["", *_comment(inspect.getdoc(subsection) or "", indent)]
            yield f"{indent}{name}:"
            yield from _lines(subsection, indent=indent + "  ", section=field.default)
            continue
        setting = setting_of(kind, name, section)
        yield from _comment(setting.meaning, indent)
        if setting.default is None:
            yield f"{indent}{name}:  # required"
        else:
            yield f"{indent}{name}: {setting.default}  # {setting.allowed}".removesuffix("  # ")


def _comment(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.replace("``", "`").split("\n\n"):
        lines += textwrap.wrap(" ".join(paragraph.split()), WIDTH - 10, break_on_hyphens=False)
    return [f"{indent}# {line}" for line in lines]


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Put the section that the items of a list or mapping are in the place of its name."""
    for key in ("items", "additionalProperties"):
        items = schema.get(key)
        name = items.get("$ref", "").rpartition("/")[2] if isinstance(items, dict) else ""
        if name:
            return schema | {key: definitions[name]}
    return schema


def _allowed(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in a few words."""
    options = [
        option
        for alternative in schema.get("anyOf", [schema])
        for option in alternative.get("oneOf", [alternative])
    ]
    values = [option for option in options if option.get("type") != "null"]
    kinds = [_kind(option) for option in values]
    if len(kinds) == len(options):
        return ", ".join(kind for kind in kinds if kind)
    texts = [kind or _TYPES[option["type"]] for kind, option in zip(kinds, values, strict=True)]
    return f"{' or '.join(texts)}, or null"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(_yaml(value) for value in schema["enum"])
    if (schema.get("minimum"), schema.get("maximum")) == (0, 1):
        return "0 to 1"
    if "prefixItems" in schema:
        return f"a list of {len(schema['prefixItems'])} numbers"
    if schema.get("type") == "array":
        return f"a list of {_kind(schema['items']) or _PLURALS[schema['items']['type']]}"
    if schema.get("type") == "object" and "properties" in schema:
        return f"{{{', '.join(schema['properties'])}}}"
    if schema.get("type") == "object":
        items = schema.get("additionalProperties")
        if not isinstance(items, dict):  # any values
            return "a mapping of names to values"
        return f"a mapping of names to {_kind(items) or _PLURALS[items['type']]}"
    bounds = [f"{sign}{schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema]
    return ", ".join(bounds)


def _yaml(value: object) -> str:
    """A value that YAML and JSON read alike; plain words are not quoted."""
    if isinstance(value, str) and value.isidentifier() and value not in _YAML_WORDS:
        return value
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{value:.1e}"
    return json.dumps(value)
