"""The processes that train together, as ``accelerate launch`` starts them.

All of them run the same code in the same order. Long work is shared out, and only the main process
writes files. A function documented as *collective* must be called by every process. Functions that
need torch import it when they are called, so a single process that does not train needs neither
torch nor accelerate.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from cai.errors import InputError, Problem

if TYPE_CHECKING:
    from accelerate.state import PartialState

Item = TypeVar("Item")
P = ParamSpec("P")


def count() -> int:
    """Count the processes that work together; 1 for a single one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Tell whether this is the main process, the one that writes files."""
    return rank() == 0


def share(items: Sequence[Item]) -> list[Item]:
    """Take this process's part of a list: every ``count()``-th item."""
    return list(items[rank() :: count()])


def on_main(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a function in the main process only, such as one that writes a file.

    The other processes do not wait for it. Call :func:`wait` before they need its effect.
    """
    if is_main():
        function(*args, **kwargs)


def write_on_main(
    write: Callable[[Path, Iterable[Item]], object], path: Path, items: Iterable[Item]
) -> None:
    """Let the main process write items that all processes make together. Collective.

    The other processes run through the items too, because making one may take all of them (see
    :func:`gather`).

    Args:
        write: Writes the items to the path, such as :func:`cai.files.write_records`.
        path: The file to write.
        items: The items; they may be made while they are written.
    """
    if is_main():
        write(path, items)
    else:
        deque(items, maxlen=0)


def join() -> PartialState:
    """Initialize communication between the processes, if that has not been done. Collective.

    Returns:
        What accelerate knows of the processes.

    Raises:
        InputError: If they were launched with an engine that training does not support.
    """
    import torch
    from accelerate.state import PartialState

    check_launch()
    if not torch.accelerator.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    return PartialState(cpu=use_cpu)


def wait() -> None:
    """Wait until all processes are here. Collective."""
    if count() > 1:
        join().wait_for_everyone()  # type: ignore[no-untyped-call]


def gather(item: Item) -> list[Item]:
    """Collect one item from each process, in the order of their ranks. Collective."""
    if count() == 1:
        return [item]
    from accelerate.utils.operations import gather_object

    join()
    gathered: list[Item] = gather_object([item])
    return gathered


def check_launch() -> None:
    """Refuse the engines of ``accelerate launch`` that training does not support.

    With them, training would step without its guard against NaN, or save parts of the weights.

    Raises:
        InputError: Naming the engines.
    """
    unsupported = [name for name in ("DeepSpeed", "Megatron_LM") if _is_requested(name)]
    if _is_requested("FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        unsupported.append("FSDP version 1")
    if unsupported:
        names = ", ".join(sorted(unsupported))
        message = f"{names} is not supported; use DDP, or FSDP version 2 in place of ZeRO-3"
        raise InputError([Problem("accelerate launch", message)])


def _is_requested(engine: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{engine.upper()}", "").lower() == "true"
