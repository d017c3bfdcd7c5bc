"""``cai check``: all that is wrong with the files a user edits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cai.config import load_config, load_training
from cai.constitution.lint import check
from cai.documents import load
from cai.errors import InputError, Problem


def check_paths(paths: Sequence[Path]) -> int:
    """Print every problem as ``file:line:col: message``; returns the exit code."""
    wanted = list(paths) or [p for p in (Path("principles"), Path("constitution")) if p.is_dir()]
    if not wanted:
        raise InputError("there is no folder principles/ or constitution/ here; name the files to check")
    readers = {path: reader for path in wanted if (reader := _reader(path))}
    problems: list[Problem] = []
    for path, reader in readers.items():
        try:
            reader(path)
        except InputError as error:
            problems += error.problems
    problems += check([p for p in wanted if p not in readers])
    for problem in problems:
        print(problem, file=sys.stderr)
    count = len(problems)
    print("all is well" if not count else f"{count} problem{'s' if count > 1 else ''}")
    return 3 if problems else 0


def _run_file(path: Path) -> None:
    from cai.pipeline.preflight import check_named

    check_named(path, load_config(path))


def _reader(path: Path) -> Callable[[Path], object] | None:
    """What reads a file if it is a run file or a training file."""
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return None
    try:
        value = load(path).value
    except InputError:
        return None
    if not isinstance(value, dict):
        return None
    return _run_file if {"prompts", "constitution"} <= value.keys() else load_training if {"out", "data"} <= value.keys() else None
