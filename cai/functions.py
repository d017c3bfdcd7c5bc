"""A user's own functions, named as ``package.module:function`` in a file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from cai.errors import InputError, Problem


def function_of(spec: str) -> Callable[..., Any]:
    """The function of that name, from an installed package or a module in the working folder.

    Raises:
        InputError: if there is none.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's own module stands in the working folder
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError([Problem(spec, f"names no function: {error}")]) from None
    if not callable(found):
        raise InputError([Problem(spec, "names something that is no function")])
    return found  # type: ignore[no-any-return]
