"""``cai init``: a folder of one's own to start from."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from cai import shipped
from cai.errors import InputError, Problem
from cai.files import disk_errors

FOLDERS = ("principles", "constitution", "examples")


def init_folder(folder: Path, force: bool) -> None:
    """Copy what ships with cai; existing files are kept unless ``force`` is given.

    Raises:
        InputError: if one of the files is there already.
        LimitReached: if the folder cannot be written.
    """
    wanted = [
        (source, folder / name / source.relative_to(shipped.folder(name)))
        for name in FOLDERS
        for source in sorted(shipped.folder(name).rglob("*"))
    ]
    files = [
        (source, target)
        for source, target in wanted
        if source.is_file() and "__pycache__" not in source.parts
    ]
    there = [target for _, target in files if target.exists()]
    if there and not force:
        raise InputError(
            [
                Problem(
                    str(there[0]),
                    f"is there already, and so are {len(there) - 1} other files; choose another folder or --force",
                )
            ]
        )
    for source, target in files:
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    print(f"wrote {len(files)} files to {folder}")
    print(f"next: edit {folder / 'principles'}, then: {run_command(folder)}")


def run_command(folder: Path) -> str:
    """The shell command that runs the first example in a filled folder, and so with its constitution."""
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    return f"{enter}cai run examples/quickstart.yaml"
