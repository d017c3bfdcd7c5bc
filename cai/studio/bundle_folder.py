"""The folder of a bundle: written beside its place, then put there, and nobody's files removed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cai.errors import InputError, Problem
from cai.files import disk_errors, read_object, write_json

MARKER = "bundle.json"
"""The file that says that a folder is a bundle, and which files belong to it."""


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder in the place of an earlier one, or leave that as it was if this fails.

    Args:
        out: The folder. It may exist if it is empty, or an earlier bundle.

    Yields:
        A temporary folder to write to, which becomes ``out`` at the end.

    Raises:
        InputError: If ``out`` has files that are not of a bundle.
        LimitReached: If it cannot be written.
    """
    _check_replaceable(out)
    target = out.absolute()
    with disk_errors(out):
        target.parent.mkdir(parents=True, exist_ok=True)
        base = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        new, old = base / "new", base / "old"
        new.mkdir()
        yield new
        write_json(new / MARKER, {"files": sorted(_files(new))})
        _check_replaceable(out)
        with disk_errors(out):
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Refuse a place where something is that is not of a bundle."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise InputError([Problem(str(out), "is not a folder; choose another one")])
    found = _files(out)
    marker = read_object(out / MARKER) if found else {"files": []}
    known = marker.get("files") if marker else None
    if not isinstance(known, list):
        text = "has files that are not of a bundle; choose another folder, or an empty one"
        raise InputError([Problem(str(out), text)])
    others = sorted(found.difference(known, [MARKER]))
    if others:
        text = f"is not of the bundle in {out}; move it, or choose another folder"
        raise InputError([Problem(str(out / others[0]), text)])


def _files(folder: Path) -> set[str]:
    """The names of all that is in a folder and those inside, apart from the folders themselves."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}
