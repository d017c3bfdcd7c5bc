"""YAML files that people edit, read so that every problem has a line and a column.

``load`` parses with the positions of all values kept, refuses duplicate keys, aliases and odd types, and ``validated``
turns a pydantic error into one :class:`~cai.errors.Problem` per field, with the nearest known key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from cai.errors import InputError, Problem, did_you_mean
from cai.validation import explain

M = TypeVar("M", bound=BaseModel)
Loc = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_DEPTH = 20


class Document:
    """The value of a YAML file and where each part of it stands."""

    def __init__(
        self, path: Path, value: Any, judge_test_metrics: dict[Loc, tuple[int, int]]
    ) -> None:
        self.path, self.value, self._marks = path, value, judge_test_metrics
        self._put: dict[Loc, str] = {}

    def put(self, loc: Loc, value: Any, where: str) -> None:
        """Set the value at ``loc``; problems with it are reported at ``where``, not in the file.

        A parent that holds no keys is left as it is: it is a problem of the file.
        """
        parent = self.value
        for key in loc[:-1]:
            if parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
            if not isinstance(parent, dict):
                return
        parent[loc[-1]] = value
        self._marks = {at: mark for at, mark in self._marks.items() if at[: len(loc)] != loc}
        self._put[loc] = where

    def where(self, loc: Loc = ()) -> str:
        """``file:line:col`` of a key or value, or of its nearest parent in the file.

        For what was put over the file's own value, the place given there; likewise for a section
        of which a part was put.
        """
        for at, place in self._put.items():
            if loc and (at[: len(loc)] == loc or loc[: len(at)] == at):
                return place
        while loc and loc not in self._marks:
            loc = loc[:-1]
        line, column = self._marks.get(loc, (1, 1))
        return f"{self.path}:{line}:{column}"


def load(path: Path) -> Document:
    """Read one YAML document.

    Raises:
        InputError: with every duplicate key, or the place of the syntax error.
    """
    text = read_text(path)
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise InputError([_syntax_problem(path, error)]) from None
    if node is None:
        raise InputError([Problem(f"{path}:1:1", "the file is empty")])
    judge_test_metrics: dict[Loc, tuple[int, int]] = {}
    problems: list[Problem] = []
    value = _build(node, (), judge_test_metrics, problems, path, set())
    if problems:
        raise InputError(problems)
    return Document(path, value, judge_test_metrics)


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte-order mark, of at most ``MAX_BYTES``."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise InputError(
            [Problem(str(path), f"is {len(data):,} bytes long; the limit is {MAX_BYTES:,}")]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            [Problem(str(path), f"is not UTF-8 (byte {error.start}); save it as UTF-8")]
        ) from None


def validated(model: type[M], document: Document, loc: Loc = ()) -> M:
    """Build ``model`` from (a part of) a document, or raise one problem per wrong field."""
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
    """One problem per field of a validation error, at its place in the file."""
    for detail in error.errors():
        inner = tuple(detail["loc"])
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(str(inner[-1]), known_fields(model, inner[:-1]))
            message = f"unknown key {inner[-1]!r}{hint}"
        else:
            message = explain(detail, ".".join(map(str, inner)))
        yield Problem(document.where((*loc, *inner)), message)


def model_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """The section at ``loc`` inside ``model``; None where a plain value stands, or nothing."""
    current = model
    for key in loc:
        if isinstance(key, int):  # an item of a list, whose field named the model already
            continue
        field = current.model_fields.get(key)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None:
            return None
        current = inner
    return current


def known_fields(model: type[BaseModel], loc: Loc) -> list[str]:
    """The field names of the section at ``loc`` inside ``model``."""
    section = model_at(model, loc)
    return list(section.model_fields) if section else []


def _syntax_problem(path: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}:1:1"
    message = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split(
        "\n"
    )[0]
    if "mapping values are not allowed" in message:
        message += '; put a text that contains ": " in quotes or after "|"'
    if "cannot start any token" in message or "\\t" in message:
        message += "; indent with spaces"
    return Problem(where, message)


def _build(
    node: yaml.Node,
    loc: Loc,
    judge_test_metrics: dict[Loc, tuple[int, int]],
    problems: list[Problem],
    path: Path,
    seen: set[int],
) -> Any:
    """The value of a node; positions and problems are collected on the way."""
    at = (node.start_mark.line + 1, node.start_mark.column + 1)
    judge_test_metrics.setdefault(loc, at)
    where = f"{path}:{at[0]}:{at[1]}"
    if id(node) in seen:
        problems.append(Problem(where, "an alias (*name) is not allowed here; write the value out"))
        return None
    if len(loc) > MAX_DEPTH:
        problems.append(Problem(where, "nested too deeply"))
        return None
    if not isinstance(node, yaml.ScalarNode):
        seen.add(id(node))
    if isinstance(node, yaml.MappingNode) and node.tag in _PLAIN_TAGS:
        return _build_mapping(node, loc, judge_test_metrics, problems, path, seen)
    if isinstance(node, yaml.SequenceNode) and node.tag in _PLAIN_TAGS:
        return [
            _build(child, (*loc, i), judge_test_metrics, problems, path, seen)
            for i, child in enumerate(node.value)
        ]
    if node.tag not in _PLAIN_TAGS:
        problems.append(
            Problem(
                where, f"{node.tag} is not allowed here; write plain text, numbers, true or false"
            )
        )
        return None
    return _scalar(node, where, problems)


def _build_mapping(
    node: yaml.MappingNode,
    loc: Loc,
    judge_test_metrics: dict[Loc, tuple[int, int]],
    problems: list[Problem],
    path: Path,
    seen: set[int],
) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        where = f"{path}:{key_node.start_mark.line + 1}:{key_node.start_mark.column + 1}"
        if key in built:
            problems.append(Problem(where, f"the key {key!r} stands here a second time"))
            continue
        judge_test_metrics[(*loc, key)] = (
            key_node.start_mark.line + 1,
            key_node.start_mark.column + 1,
        )
        built[key] = _build(value_node, (*loc, key), judge_test_metrics, problems, path, seen)
    return built


_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
}


def _scalar(node: yaml.Node, where: str, problems: list[Problem]) -> Any:
    kind = node.tag.rsplit(":", 1)[1]
    if kind in ("str", "timestamp"):
        text = str(node.value)
        try:  # "1e-5" is text to YAML 1.1 and a number to everybody else
            return (
                float(text)
                if kind == "str" and not getattr(node, "style", None) and "e" in text.lower()
                else text
            )
        except ValueError:
            return text
    if kind == "int" and (
        ":" in node.value or (len(node.value) > 1 and node.value.lstrip("+-").startswith("0"))
    ):
        problems.append(
            Problem(
                where,
                f"{node.value} would be read as an odd number; put it in quotes or write it without the leading 0",
            )
        )
        return None
    return yaml.CSafeLoader("").construct_object(node)  # a single scalar: int, float, bool or null
