"""Fill templates that may loop without end: after a number of steps they are stopped.

The limit counts lines of the compiled template, not seconds, so it is the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinja2 import TemplateRuntimeError

MAX_STEPS = 500_000
"""Lines of a compiled template that filling it may take; usual ones take some hundreds."""
_COMPILED = "<template>"
"""What jinja2 calls the file of a template that comes from a string."""


class EndlessTemplateError(TemplateRuntimeError):
    """A template that is not filled after :data:`MAX_STEPS`."""


@contextmanager
def bounded() -> Iterator[None]:
    """Stop templates that are filled inside after :data:`MAX_STEPS`.

    Raises:
        EndlessTemplateError: If one is stopped.
    """
    steps = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        if event == "line":
            steps += 1
            if steps > MAX_STEPS:
                raise EndlessTemplateError(f"it loops for more than {MAX_STEPS:,} steps")
        return count

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        return count if frame.f_code.co_filename == _COMPILED else None

    if sys.gettrace() is not None:  # a debugger or a measurement of coverage
        yield
        return
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
