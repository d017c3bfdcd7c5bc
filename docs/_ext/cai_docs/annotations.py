"""Which types of ``cai`` the public names mention in their signatures and fields."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import typing
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import cai

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@cache
def mentioned_types() -> frozenset[type]:
    """The classes of ``cai`` that a reader of the public signatures meets, and those that these mention in turn."""
    found: set[type] = set()
    todo: list[Any] = [getattr(cai, name) for name in cai.__all__]
    load_type_checking_imports()
    while todo:
        for kind in _classes(todo.pop()):
            if kind not in found:
                found.add(kind)
                todo.append(kind)
    return frozenset(found)


def load_type_checking_imports() -> None:
    """Do what modules import for type checkers only, now that no import can be circular."""
    done: set[str] = set()
    while todo := [
        name for name in sys.modules if name.split(".")[0] == "cai" and name not in done
    ]:
        for name in todo:
            done.add(name)
            _load(sys.modules[name])


def _load(module: ModuleType) -> None:
    for block in ast.parse(inspect.getsource(module)).body:
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING"):
            for node in block.body:
                _import(node, module)


def _import(node: ast.stmt, into: ModuleType) -> None:
    if isinstance(node, ast.ImportFrom):
        source = importlib.import_module(f"{'.' * node.level}{node.module or ''}", into.__package__)
        for alias in node.names:
            setattr(into, alias.asname or alias.name, getattr(source, alias.name))
    elif isinstance(node, ast.Import):
        for alias in node.names:
            whole = importlib.import_module(alias.name)
            top = alias.name.partition(".")[0]
            setattr(into, alias.asname or top, whole if alias.asname else sys.modules[top])


def _classes(value: Any) -> Iterator[type]:
    """The classes of ``cai`` in the annotations of a function, or of the fields and methods of a class."""
    if not inspect.isclass(value):
        yield from _inside(list(typing.get_type_hints(value).values()) if callable(value) else [])
        return
    if issubclass(value, BaseModel):
        yield from _inside([field.annotation for field in value.model_fields.values()])
    else:
        yield from _inside(list(typing.get_type_hints(value).values()))
    for name, member in vars(value).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") or name in ("__init__", "__call__"):
            yield from _inside(
                list(typing.get_type_hints(function).values())
                if inspect.isfunction(function)
                else []
            )


def _inside(annotations: list[Any]) -> Iterator[type]:
    for annotation in annotations:
        if isinstance(annotation, list):  # the parameters of a Callable
            yield from _inside(annotation)
        elif inspect.isclass(annotation) and annotation.__module__.split(".")[0] == "cai":
            yield annotation
        else:
            yield from _inside(list(typing.get_args(annotation)))
