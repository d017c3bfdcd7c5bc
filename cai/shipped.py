"""Where the files that travel with ``cai`` are: in the package once installed, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder ``constitution``, ``principles`` or ``examples`` as shipped.

    A checkout's own folder wins: what a developer edits is what runs.
    """
    beside = _PACKAGE.parent / name
    return (
        beside
        if (_PACKAGE.parent / "pyproject.toml").is_file() and beside.is_dir()
        else _PACKAGE / "_shipped" / name
    )


def reference_model() -> Path:
    """The folder of the embedded reference model."""
    return _PACKAGE / "reference" / "model"
