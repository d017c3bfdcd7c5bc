"""Where the files that ship with ``cai`` are: in the package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """Return a folder as shipped; in a checkout, the checkout's own.

    Args:
        name: ``constitution``, ``principles`` or ``examples``.
    """
    beside = _PACKAGE.parent / name
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    return beside if is_checkout and beside.is_dir() else _PACKAGE / "_shipped" / name


def reference_model() -> Path:
    """Return the folder of the embedded reference model."""
    return _PACKAGE / "reference" / "model"


def reference_templates() -> Path:
    """Return the folder of the prompt templates that the reference model was trained on."""
    return _PACKAGE / "reference" / "templates"
