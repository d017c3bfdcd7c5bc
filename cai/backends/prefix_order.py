"""The order in which requests are sent, so that a server reads what they share once."""

from __future__ import annotations

from collections.abc import Sequence


def prefix_order(texts: Sequence[str]) -> list[int]:
    """Return the order of texts in which those that begin alike are next to each other.

    Servers such as vLLM and SGLang keep what they have read of the latest prompts. In the order of
    the alphabet, a prompt comes right after the one with which it shares most of its beginning.

    Args:
        texts: What the model reads for each request.

    Returns:
        Indices of the texts; equal texts keep their order.
    """
    return sorted(range(len(texts)), key=texts.__getitem__)
