"""Keeps the load bars, load reports and advice of other libraries off the user's screen."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from transformers.utils.logging import set_tqdm_hook

LIBRARIES = ("transformers", "huggingface_hub", "accelerate", "peft")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide other libraries' progress bars, warnings, and log messages below an error.

    Everything is restored on exit. What the user asked for is kept: a log level other than the
    libraries' default, filters for warnings (so ``python -W error`` still finds every one), and the
    bars of downloads, which may take minutes.
    """
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    bars = set_tqdm_hook(_no_bar)
    try:
        for logger in loggers:
            if logger.getEffectiveLevel() == logging.WARNING:
                logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", append=True
            )  # last in line: any filter of the user's comes first
            yield
    finally:
        set_tqdm_hook(bars)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _no_bar(factory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return factory(*args, **kwargs | {"disable": True})
