"""Checks for arguments of the Python API: one line names the argument, its value and what it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from cai.constitution.schema import Constitution, Use
from cai.errors import ArgumentError, did_you_mean


def check_count(name: str, value: object, least: int = 1) -> None:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ArgumentError(name, f"must be a whole number of at least {least}, not {value!r}")


def check_number(name: str, value: object, least: float = 0.0) -> None:
    """A finite number of at least ``least``."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or value < least
    ):
        raise ArgumentError(name, f"must be a number of at least {least:g}, not {value!r}")


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """One of the known names."""
    known = list(known)
    if value not in known:
        raise ArgumentError(
            name,
            f"must be one of {', '.join(known)}, not {value!r}{did_you_mean(str(value), known)}",
        )


def check_records(name: str, values: object, kind: type) -> None:
    """A list (or tuple) of records of one kind."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ArgumentError(
            name, f"must be a list of {kind.__name__} records, not {type(values).__name__}"
        )
    for number, value in enumerate(values):
        if not isinstance(value, kind):
            raise ArgumentError(
                f"{name}[{number}]", f"must be a {kind.__name__}, not {type(value).__name__}"
            )


def check_sampling(temperature: object, max_tokens: object) -> None:
    """What a model is sampled with."""
    check_number("temperature", temperature)
    check_count("max_tokens", max_tokens)


def check_constitution(constitution: object, use: Use | None = None, principles: int | None = None) -> None:
    """A constitution that can draw ``principles`` different principles for a use; 0 stands for all."""
    if not isinstance(constitution, Constitution):
        raise ArgumentError(
            "constitution",
            f"must be a Constitution from cai.load_constitution, not {type(constitution).__name__}",
        )
    if use is None:
        return
    there = len(constitution.used_for(use))
    if not there:
        raise ArgumentError(
            "constitution", f"the constitution {constitution.name!r} draws no principle to {use} by"
        )
    if principles is not None:
        check_count("principles", principles, 0)
        if principles > there:
            raise ArgumentError(
                "principles",
                f"must be at most {there}, the principles that {constitution.name!r} draws to {use} by, not {principles}",
            )


def check_model(model: Any) -> None:
    """What a memo gives for a backend, not the backend itself."""
    if not callable(model) or not hasattr(model, "fingerprint"):
        raise ArgumentError(
            "model",
            f"must come from ResponseCache(path).cached_model(backend), not {type(model).__name__}",
        )
