"""A user's own functions, named as ``package.module:function`` in a file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cai.errors import InputError, Problem


def look_in(folder: Path) -> None:
    """Let :func:`function_of` find modules in a folder before the working folder.

    Args:
        folder: The folder, such as that of a run file.
    """
    _look_in_working_folder()
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.insert(0, path)


def function_of(name: str) -> Callable[..., Any]:
    """Import a function from an installed package or a module in the working folder.

    A run adds the folder of its run file with :func:`look_in`.

    Args:
        name: The function as ``package.module:function``.

    Raises:
        InputError: If there is no such function.
    """
    _look_in_working_folder()
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError([Problem(name, f"cannot be imported: {error}")]) from None
    except Exception as error:  # whatever a user's module raises when it is imported
        text = f"cannot be imported: {type(error).__name__}: {error}"
        raise InputError([Problem(name, text)]) from error
    if not callable(function):
        raise InputError([Problem(name, "is not callable")])
    return function  # type: ignore[no-any-return]


def _look_in_working_folder() -> None:
    if "" not in sys.path:
        sys.path.insert(0, "")
