"""The argument by which a model takes the keys and values it has computed before."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache as memoize
from typing import Any

from transformers import Cache, PreTrainedModel

from cai.errors import InputError, Problem

ARGUMENTS = ("cache", "past_key_values", "cache_params")
"""The names in use, newest first: transformers drops all but ``cache`` in 5.40."""


def cached(model: PreTrainedModel, cache: Cache) -> dict[str, Any]:
    """The arguments with which ``model`` reads ``cache`` and adds to it.

    Raises:
        InputError: if the model takes no cache, so that it cannot be decoded token by token.
    """
    return {_argument(type(model).forward): cache, "use_cache": True}


@memoize
def _argument(forward: Callable[..., Any]) -> str:
    parameters = inspect.signature(forward).parameters
    for name in ARGUMENTS:
        if name in parameters:
            return name
    raise InputError(
        [
            Problem(
                forward.__qualname__.removesuffix(".forward"),
                "takes no key-value cache; choose a model of another family",
            )
        ]
    )
