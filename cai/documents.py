"""YAML files that people edit, read so that every problem has a line and a column.

:func:`load` keeps the position of every value and refuses duplicate keys, aliases and unusual
types. :func:`validated` turns a pydantic error into one :class:`~cai.errors.Problem` per field,
with the nearest known key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cai.errors import InputError, Problem, did_you_mean
from cai.validation import explain

ModelT = TypeVar("ModelT", bound=BaseModel)
Loc = tuple[str | int, ...]
"""Keys and list indices that lead to a value."""
Position = tuple[int, int]
"""Line and column, from 1."""
MAX_BYTES = 1 << 20
"""Size of the largest file that people edit."""
MAX_LOCK_BYTES = 32 << 20
"""Size of the largest file that a run writes of them."""
MAX_DEPTH = 20
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
}


class Document:
    """The value of a YAML file and the position of each part of it.

    Args:
        path: The file.
        value: Its value.
        positions: The position of each value, by its location.
    """

    def __init__(self, path: Path, value: Any, positions: dict[Loc, Position]) -> None:
        self.path = path
        self.value = value
        self._positions = positions
        self._overrides: dict[Loc, str] = {}

    def put(self, loc: Loc, value: Any, where: str) -> None:
        """Set a value; problems with it are reported at ``where``, not in the file.

        A parent that is not a mapping is left as it is: it is a problem of the file.

        Args:
            loc: Where to set it.
            value: The new value.
            where: The place to report, such as ``--set seed``.
        """
        parent = self.value
        for key in loc[:-1]:
            if parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
            if not isinstance(parent, dict):
                return
        parent[loc[-1]] = value
        kept = {at: place for at, place in self._positions.items() if at[: len(loc)] != loc}
        self._positions = kept
        self._overrides[loc] = where

    def where(self, loc: Loc = ()) -> str:
        """``file:line:col`` of a key or value, or of its nearest parent in the file.

        A value that was put over that of the file has the place that was given then, and so has a
        section of which a part was put.

        Args:
            loc: The location of the value; empty: the file.
        """
        for overridden, place in self._overrides.items():
            if loc and (overridden[: len(loc)] == loc or loc[: len(overridden)] == overridden):
                return place
        while loc and loc not in self._positions:
            loc = loc[:-1]
        line, column = self._positions.get(loc, (1, 1))
        return f"{self.path}:{line}:{column}"


def load(path: Path, max_bytes: int = MAX_BYTES) -> Document:
    """Read one YAML document.

    Args:
        path: The file.
        max_bytes: The size of the largest file to read.

    Raises:
        InputError: With the place of the syntax error, or of everything that is not allowed.
    """
    return parse(path, read_text(path, max_bytes))


def parse(path: Path, text: str) -> Document:
    """Read one YAML document of a text.

    Args:
        path: The file that the text is from.
        text: The text.

    Raises:
        InputError: With the place of the syntax error, or of everything that is not allowed.
    """
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise InputError([_syntax_problem(path, error)]) from None
    if node is None:
        raise InputError([Problem(f"{path}:1:1", "the file is empty")])
    builder = _Builder(path)
    value = builder.build(node, ())
    if builder.problems:
        raise InputError(builder.problems)
    return Document(path, value, builder.positions)


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Args:
        path: The file.
        max_bytes: The size of the largest file to read.

    Raises:
        InputError: If it cannot be read, is too long or is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name with a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError([Problem(str(path), f"cannot be read: {reason}")]) from None
    if len(data) > max_bytes:
        text = f"is {len(data):,} bytes long; the limit is {max_bytes:,}"
        raise InputError([Problem(str(path), text)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 (byte {error.start}); save it as UTF-8"
        raise InputError([Problem(str(path), text)]) from None


def validated(model: type[ModelT], document: Document, loc: Loc = ()) -> ModelT:
    """Build a model from a document, or from a part of it.

    Args:
        model: The model.
        document: The document.
        loc: The part; empty: the whole document.

    Raises:
        InputError: With one problem per wrong field.
    """
    value = document.value
    for key in loc:
        value = value[key]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(list(problems_of(error, model, document, loc))) from None


def problems_of(
    error: ValidationError, model: type[BaseModel], document: Document, loc: Loc
) -> Iterator[Problem]:
    """One problem per field of a validation error, at its place in the file.

    Args:
        error: The error.
        model: The model that was validated.
        document: The document.
        loc: The part of the document that was validated.
    """
    for detail in error.errors():
        # without the names of alternatives, such as one value or a list of them
        inner = tuple(key for key in detail["loc"] if not str(key).startswith("<"))
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(str(inner[-1]), known_fields(model, inner[:-1]))
            message = f"unknown key {inner[-1]!r}{hint}"
        else:
            message = explain(detail, ".".join(map(str, inner)))
        yield Problem(document.where((*loc, *inner)), message)


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The model at a location inside another one; None if there is a plain value or nothing.

    Args:
        model: The outer model.
        loc: The location.
    """
    current, in_mapping = model, False
    for key in loc:
        # an item of a list or a mapping, whose field named the model already
        if isinstance(key, int) or in_mapping:
            in_mapping = False
            continue
        field = current.model_fields.get(key)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        models = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if field is None or not models:
            return None
        current, in_mapping = models[0], get_origin(field.annotation) is Mapping
    return None if in_mapping else current


def is_mapping(model: type[BaseModel], loc: Loc) -> bool:
    """Whether there are values under names of the author's choice at a location inside a model.

    Args:
        model: The outer model.
        loc: The location.
    """
    outer = model_at(model, loc[:-1]) if loc else None
    field = outer.model_fields.get(str(loc[-1])) if outer else None
    return field is not None and get_origin(field.annotation) is Mapping


def known_fields(model: type[BaseModel], loc: Loc) -> list[str]:
    """The field names of the model at a location inside another one.

    Args:
        model: The outer model.
        loc: The location.
    """
    section = model_at(model, loc)
    return list(section.model_fields) if section else []


def _syntax_problem(path: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}:1:1"
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    message = str(problem).split("\n")[0]
    if "mapping values are not allowed" in message:
        message += '; put a text that contains ": " in quotes or after "|"'
    if "alphabetic or numeric character" in message:  # * and & begin aliases in YAML
        message = 'a text that begins with * or & must be in quotes, such as "*"'
    if "cannot start any token" in message or "\\t" in message:
        message += "; indent with spaces"
    return Problem(where, message)


class _Builder:
    """Builds the value of a document and collects positions and problems on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.positions: dict[Loc, Position] = {}
        self.problems: list[Problem] = []
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, loc: Loc) -> Any:
        """The value of a node; None if it is a problem."""
        self.positions.setdefault(loc, _position(node))
        if id(node) in self._seen:
            self._refuse(node, "an alias (*name) is not allowed here; write the value out")
            return None
        if len(loc) > MAX_DEPTH:
            self._refuse(node, "nested too deeply")
            return None
        if node.tag not in _PLAIN_TAGS:
            text = f"{node.tag} is not allowed here; write plain text, numbers, true or false"
            self._refuse(node, text)
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        return [self.build(child, (*loc, i)) for i, child in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in built:
                self._refuse(key_node, f"the key {key!r} is already used")
                continue
            self.positions[(*loc, key)] = _position(key_node)
            built[key] = self.build(value_node, (*loc, key))
        return built

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.rsplit(":", 1)[1], str(node.value)
        if kind == "timestamp":
            return text
        if kind == "str":
            is_plain = not node.style
            return _exponent(text) if is_plain and "e" in text.lower() else text
        has_leading_zero = len(text) > 1 and text.lstrip("+-").startswith("0")
        if kind == "int" and (":" in text or has_leading_zero):
            self._refuse(
                node,
                f"{text} would be read as another number; put it in quotes or write it without "
                "the leading 0",
            )
            return None
        try:  # a single scalar: int, float, bool or null
            return yaml.CSafeLoader("").construct_object(node)
        except ValueError:  # thousands of digits, or one that YAML takes for a number
            self._refuse(node, "is no number that can be read; put a text in quotes")
            return None

    def _refuse(self, node: yaml.Node, message: str) -> None:
        line, column = _position(node)
        self.problems.append(Problem(f"{self.path}:{line}:{column}", message))


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _exponent(text: str) -> float | str:
    """A number such as ``1e-5``, which is text to YAML 1.1 and a number to everybody else."""
    try:
        return float(text)
    except ValueError:
        return text
