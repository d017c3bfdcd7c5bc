"""Where the models of an ensemble of reward models are: the first in a folder, the others in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from cai import distributed


def member_folders(out: Path, size: int) -> dict[int, Path]:
    """Name the folders in which the further members of an ensemble are trained, beside ``out``.

    Args:
        out: Folder of the first member.
        size: Number of reward models, the first included.

    Returns:
        A folder for each of the members 1 to ``size - 1``.
    """
    return {member: out.with_name(f"{out.name}.member-{member}") for member in range(1, size)}


def adopt_members(out: Path, folders: Mapping[int, Path]) -> None:
    """Move trained members into the folder of the first one, as ``member-1`` and so on.

    Collective.
    """
    if distributed.is_main():
        for member, folder in folders.items():
            target = out / f"member-{member}"
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
    distributed.wait()
