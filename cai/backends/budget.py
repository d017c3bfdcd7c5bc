"""How much a run may ask of its models, counted over all that was ever asked for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cai.errors import InputError, Problem

PER = 1_000_000
"""Tokens that a price is for."""


@dataclass(frozen=True)
class Budget:
    """Limits (``inf``: none) and the prices of a million tokens read and written."""

    requests: float = math.inf
    tokens: float = math.inf
    money: float = math.inf
    price_in: float = 0.0
    price_out: float = 0.0

    def cost(self, tokens_in: float, tokens_out: float) -> float:
        """What tokens cost."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / PER

    def used_up(self, requests: int, tokens_in: int, tokens_out: int) -> str:
        """Which limit is reached, in words; empty while none is."""
        spent = {
            "requests": requests,
            "tokens": tokens_in + tokens_out,
            "money": self.cost(tokens_in, tokens_out),
        }
        reached = [name for name, amount in spent.items() if amount >= getattr(self, name)]
        return ", ".join(
            f"{name} {spent[name]:,.10g} of {getattr(self, name):,.10g}" for name in reached
        )


def parse_budget(limits: str, prices: str) -> Budget:
    """A budget from ``requests=1000,tokens=2e6,money=5`` and prices from ``0.15/0.60`` (a million tokens read / written).

    Raises:
        InputError: naming what cannot be read.
    """
    found: dict[str, float] = {}
    problems = []
    for part in filter(None, map(str.strip, limits.split(","))):
        name, _, amount = part.partition("=")
        if name not in ("requests", "tokens", "money") or (value := _amount(amount)) is None:
            problems.append(
                Problem(f"--budget {part}", "must look like requests=1000, tokens=2e6 or money=5")
            )
        else:
            found[name] = value
    if prices:
        read = [_amount(price) for price in prices.split("/")]
        if len(read) != 2 or read[0] is None or read[1] is None:
            problems.append(
                Problem(
                    f"--price {prices}", "must look like 0.15/0.60: a million tokens read / written"
                )
            )
        else:
            found |= {"price_in": read[0], "price_out": read[1]}
    elif "money" in found:
        problems.append(Problem("--budget money", "needs --price"))
    if problems:
        raise InputError(problems)
    return Budget(**found)


def _amount(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
