"""Find the types of ``cai`` in the signatures and fields of the public names."""

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
    """Return the classes of ``cai`` in public signatures, and those that these classes mention."""
    load_type_checking_imports()
    mentioned: set[type] = set()
    unvisited: list[Any] = [getattr(cai, name) for name in cai.__all__]
    while unvisited:
        for kind in _classes(unvisited.pop()):
            if kind not in mentioned:
                mentioned.add(kind)
                unvisited.append(kind)
    return frozenset(mentioned)


def load_type_checking_imports() -> None:
    """Run the imports that modules have for type checkers only.

    All modules are loaded by now, so no import can be circular. An import may load further modules,
    which have such imports themselves.
    """
    done: set[str] = set()
    while remaining := _loaded_modules() - done:
        for name in remaining:
            _load(sys.modules[name])
        done |= remaining


def _loaded_modules() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] == "cai"}


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
    """Yield the classes of ``cai`` in the signature of a function, or in the body of a class."""
    if not inspect.isclass(value):
        yield from _inside(_hints(value) if callable(value) else [])
        return
    if issubclass(value, BaseModel):
        yield from _inside([field.annotation for field in value.model_fields.values()])
    else:
        yield from _inside(_hints(value))
    for name, member in vars(value).items():
        is_public = not name.startswith("_") or name in ("__init__", "__call__")
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if is_public and inspect.isfunction(function):
            yield from _inside(_hints(function))


def _hints(value: Any) -> list[Any]:
    return list(typing.get_type_hints(value).values())


def _inside(annotations: list[Any]) -> Iterator[type]:
    for annotation in annotations:
        if isinstance(annotation, list):  # the parameters of a Callable
            yield from _inside(annotation)
        elif inspect.isclass(annotation) and annotation.__module__.split(".")[0] == "cai":
            yield annotation
        else:
            yield from _inside(list(typing.get_args(annotation)))
