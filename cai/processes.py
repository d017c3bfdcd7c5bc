"""The processes that work on one thing together, as ``accelerate launch`` starts them; one alone needs neither torch nor accelerate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def count() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the one that writes."""
    return rank() == 0


def share(items: Sequence[Item]) -> list[Item]:
    """This process's part of a list: every ``count()``-th."""
    return list(items[rank() :: count()])


def wait() -> None:
    """Go on when all processes are here."""
    if count() > 1:
        from accelerate.state import PartialState

        PartialState().wait_for_everyone()
