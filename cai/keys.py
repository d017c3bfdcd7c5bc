"""Content ids and keyed draws: the whole of the randomness in ``cai`` outside a model.

A draw depends on nothing but its arguments, so the order of work, the number of workers, a resume, or one more option in
the list leave every other draw as it was. There is no global generator.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def digest(value: object, length: int = 16) -> str:
    """Hex sha256 (first ``length`` digits) of the canonical JSON of ``value``: the same content, the same id."""
    text = value if isinstance(value, str) else _CANONICAL.encode(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def seed_for(*parts: object) -> int:
    """A 31-bit seed that belongs to these parts alone (a run's seed, a record's id, a step)."""
    return int(digest([str(part) for part in parts], 15), 16) & 0x7FFFFFFF


def uniform(*parts: object) -> float:
    """A number in (0, 1) that belongs to these parts alone."""
    return _fraction(_CANONICAL.encode([str(part) for part in parts]))


def _fraction(text: str) -> float:
    """The first 52 bits of a text's sha256, as a number in (0, 1)."""
    return ((int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) >> 4) + 0.5) / (1 << 52)


_quoted = lru_cache(maxsize=4096)(_CANONICAL.encode)


def draw_many(weights: Mapping[str, float], count: int, *parts: object) -> list[str]:
    """Draw up to ``count`` different keys with probability proportional to weight, by weighted rendezvous hashing.

    Every key gets an exponential clock ``-ln(u) / weight`` with ``u`` hashed from the key and ``parts``; those that ring
    first are drawn, in that order. Adding or removing a key moves only the draws which that key wins or won.

    Raises:
        ValueError: if no weight is above zero.
    """
    # the clock of a key is keyed on uniform(key, *parts); what they have in common is encoded once
    common = "".join(f",{_CANONICAL.encode(str(part))}" for part in parts)
    clocks = {
        key: -math.log(_fraction(f"[{_quoted(key)}{common}]")) / weight
        for key, weight in weights.items()
        if weight > 0
    }
    if not clocks:
        raise ValueError("nothing to draw from: no option has a weight above zero")
    return sorted(clocks, key=lambda key: (clocks[key], key))[:count]


def draw(weights: Mapping[str, float], *parts: object) -> str:
    """Draw one key with probability proportional to its weight; see :func:`draw_many`."""
    return draw_many(weights, 1, *parts)[0]


def shuffled(items: Sequence[T], *parts: object) -> list[T]:
    """The items in an order that belongs to ``parts`` alone."""
    order = sorted(range(len(items)), key=lambda i: uniform(i, *parts))
    return [items[i] for i in order]
