"""``cai init``: copy the files that ship with the package into a folder of your own."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from cai import shipped
from cai.errors import InputError, Problem
from cai.files import disk_errors

SHIPPED_FOLDERS = ("principles", "constitution", "examples")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to copy into; created if needed.")
    ] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Copy principles, constitutions and examples.

    Example: cai init my-assistant
    """
    copies = dict(_copies(folder))
    existing = [target for target in copies.values() if target.exists()]
    if existing and not force:
        others = f" and {len(existing) - 1} other files exist" if len(existing) > 1 else " exists"
        text = f"the file{others} already; choose another folder, or replace them with --force"
        raise InputError([Problem(str(existing[0]), text)])
    for source, target in copies.items():
        with disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    print(f"wrote {len(copies)} files to {folder}")
    print(f"next: edit {folder / 'principles'}, then: {run_command(folder)}")


def _copies(folder: Path) -> list[tuple[Path, Path]]:
    """All shipped files, each with the place that it is copied to."""
    copies = []
    for name in SHIPPED_FOLDERS:
        shipped_folder = shipped.folder(name)
        paths = sorted(shipped_folder.rglob("*"))
        files = [p for p in paths if p.is_file() and "__pycache__" not in p.parts]
        copies += [(file, folder / name / file.relative_to(shipped_folder)) for file in files]
    return copies


def run_command(folder: Path) -> str:
    """Spell the shell command that runs the first example of a folder with that folder's files."""
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    return f"{enter}cai run examples/quickstart.yaml"
