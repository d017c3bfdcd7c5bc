"""Memory of this process that nothing uses any more goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys


def give_back() -> None:
    """Collect garbage and return free memory to the system.

    The C library of Linux keeps what was freed between blocks that are still in use. After training
    that can be more than the next stage needs itself. Elsewhere only garbage is collected.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
