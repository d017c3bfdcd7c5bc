"""Checks for arguments of the Python API.

Each raises an ``ArgumentError`` of one line: the argument, what it must be, and what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

from cai.errors import ArgumentError, did_you_mean


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Check that an argument is a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < minimum:
        raise ArgumentError(name, f"must be a whole number of at least {minimum}, not {value!r}")


def check_number(name: str, value: object, minimum: float = 0.0) -> None:
    """Check that an argument is a finite number of at least ``minimum``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or value < minimum
    ):
        raise ArgumentError(name, f"must be a number of at least {minimum:g}, not {value!r}")


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Check that an argument is one of the known names."""
    known = list(known)
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise ArgumentError(name, f"must be one of {', '.join(known)}, not {value!r}{hint}")


def check_records(name: str, values: object, kind: type) -> None:
    """Check that an argument is a list or tuple of records of one kind."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        actual = type(values).__name__
        raise ArgumentError(name, f"must be a list of {kind.__name__} records, not {actual}")
    for index, value in enumerate(values):
        if not isinstance(value, kind):
            actual = type(value).__name__
            raise ArgumentError(f"{name}[{index}]", f"must be a {kind.__name__}, not {actual}")


def check_sampling(temperature: object, max_tokens: object) -> None:
    """Check the sampling arguments of a model."""
    check_number("temperature", temperature)
    check_count("max_tokens", max_tokens)


def check_model(model: object) -> None:
    """Check that an argument is a model with a cache, not the backend itself."""
    if not callable(model) or not hasattr(model, "fingerprint"):
        actual = type(model).__name__
        raise ArgumentError(
            "model", f"must come from ResponseCache(path).cached_model(backend), not {actual}"
        )
