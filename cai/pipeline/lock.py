"""One process at a time: the locks of what a command writes to."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cai.errors import InputError, Problem
from cai.files import write_text

LOCK, OWNER = ".lock", ".owner"
_UNFINISHED = re.compile(r"\.[\w.-]+\.(json|jsonl|yaml|html|md|parquet|base|owner)\.[a-z0-9_]{8}")
"""Files that are being written, which a killed process leaves behind."""


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder against other processes, and remove what a killed one left in it.

    Args:
        folder: The folder, which exists.

    Returns:
        The lock, which is held until it is released or the process ends.

    Raises:
        InputError: If another process works in the folder, or it cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError([Problem(str(folder), f"is in use by {_owner(folder)}")]) from None
    except OSError as error:
        raise InputError([Problem(str(folder), f"cannot be written: {error.strerror}")]) from None
    write_text(folder / OWNER, f"process {os.getpid()} on {socket.gethostname()}")
    sweep(folder)
    return lock


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Lock a file that is about to be written against other processes.

    Args:
        path: The file; its folder is made if need be.

    Raises:
        InputError: If another process is writing it, or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError([Problem(str(path), "is being written by another process")]) from None
    except OSError as error:
        raise InputError([Problem(str(path), f"cannot be written: {error.strerror}")]) from None
    try:
        for other in path.parent.glob(f".{path.name}.*"):
            if is_unfinished(other.name):
                other.unlink(missing_ok=True)
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # before it is released
        lock.release()


def is_unfinished(name: str) -> bool:
    """Tell whether a file's name is that of a file which a process is writing, or was.

    Args:
        name: The name.
    """
    return bool(_UNFINISHED.fullmatch(name))


def sweep(folder: Path) -> None:
    """Remove unfinished files from a locked folder and from the folders of its stages.

    Args:
        folder: The folder.
    """
    for path in (*folder.glob(".*"), *folder.glob("*/.*")):
        if is_unfinished(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text(encoding="utf-8") or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
