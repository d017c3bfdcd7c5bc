"""The processes that work on one thing together, as ``accelerate launch`` starts them; one alone needs neither torch nor accelerate.

All of them do the same in the same order. Work that takes long is shared out; only the main one writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from cai.errors import InputError, Problem

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


def join() -> Any:
    """Meet the others, if there are any; returns what accelerate knows of them.

    Raises:
        InputError: if they were started with an engine that training does not know.
    """
    import torch
    from accelerate.state import PartialState

    check_launch()
    if not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    return PartialState(cpu=os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true")


def wait() -> None:
    """Go on when all processes are here."""
    if count() > 1:
        join().wait_for_everyone()


def gather(item: Item) -> list[Item]:
    """What each process brings, in the order of their ranks."""
    if count() == 1:
        return [item]
    from accelerate.utils.operations import gather_object

    join()
    gathered: list[Item] = gather_object([item])
    return gathered


def check_launch() -> None:
    """Refuse what ``accelerate launch`` may ask for and training does not know.

    Raises:
        InputError: naming it; started all the same, it would step without the guard, or save parts of weights.
    """
    asked = {
        name
        for name in ("DeepSpeed", "Megatron_LM", "FSDP")
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() == "true"
    }
    if os.environ.get("FSDP_VERSION", "1") == "2":
        asked.discard("FSDP")
    if asked:
        what = ", ".join(sorted(name + " version 1" * (name == "FSDP") for name in asked))
        raise InputError(
            [
                Problem(
                    "accelerate launch",
                    f"{what} is not supported; use DDP, or FSDP version 2, which does what ZeRO-3 does",
                )
            ]
        )
