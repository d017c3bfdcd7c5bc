"""Check that an argument of the Python API is a constitution that can be used."""

from __future__ import annotations

from cai.arguments import check_count
from cai.constitution.schema import Constitution, Use
from cai.errors import ArgumentError


def check_constitution(
    constitution: object, use: Use | None = None, principles: int | None = None
) -> None:
    """Check that an argument is a constitution with enough principles for its use.

    Args:
        constitution: The argument.
        use: What principles are drawn for; at least one must have a weight for it.
        principles: How many different principles are drawn at once; 0 means all.
    """
    if not isinstance(constitution, Constitution):
        actual = type(constitution).__name__
        raise ArgumentError(
            "constitution", f"must be a Constitution from cai.load_constitution, not {actual}"
        )
    if use is None:
        return
    available = len(constitution.used_for(use))
    if not available:
        raise ArgumentError(
            "constitution", f"the constitution {constitution.name!r} has no principles to {use} by"
        )
    if principles is None:
        return
    check_count("principles", principles, 0)
    if principles > available:
        raise ArgumentError(
            "principles",
            f"must be at most {available}, the number of principles that {constitution.name!r} "
            f"has to {use} by, not {principles}",
        )
