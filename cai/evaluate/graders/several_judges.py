"""What a grade says of several judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai.evaluate.grades import Grading


def by_fingerprint(grading: Grading, **columns: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the evidence of each judge.

    Args:
        grading: What the grader works with.
        **columns: The values of each judge, by name.
    """
    rows = zip(*columns.values(), strict=True)
    return [
        {"judge": judge.fingerprint, **dict(zip(columns, row, strict=True))}
        for judge, row in zip(grading.judges, rows, strict=True)
    ]


def joined_reasons(grading: Grading, reasons: Sequence[str]) -> str:
    """Return what went wrong, and of several judges with which one.

    Args:
        grading: What the grader works with.
        reasons: What went wrong with each judge.
    """
    if len(reasons) == 1:
        return reasons[0]
    pairs = zip(grading.judges, reasons, strict=True)
    return "; ".join(f"{judge.fingerprint}: {reason}" for judge, reason in pairs if reason)
