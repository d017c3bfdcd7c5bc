"""A user's own functions, named as ``package.module:function`` in a file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.errors import InputError, Problem


def look_in(folder: Path) -> None:
    """Let :func:`function_of` find modules in a folder, before the working folder and installed packages."""
    _look_in_working_folder()
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)


def function_of(spec: str) -> Callable[..., Any]:
    """The function of that name, from an installed package or a module in the working folder.

    A run adds the folder of its run file with :func:`look_in`.

    Raises:
        InputError: if there is none.
    """
    _look_in_working_folder()
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError([Problem(spec, f"names no function: {error}")]) from None
    except Exception as error:  # whatever a user's module does when it is imported
        text = f"cannot be imported: {type(error).__name__}: {error}"
        raise InputError([Problem(spec, text)]) from None
    if not callable(found):
        raise InputError([Problem(spec, "does not name a function")])
    return found  # type: ignore[no-any-return]


def _look_in_working_folder() -> None:
    if "" not in sys.path:
        sys.path.insert(0, "")
