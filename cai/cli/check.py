"""``cai check``: all that is wrong with the files a user edits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cai.config import load_config
from cai.constitution.lint import check
from cai.documents import load
from cai.errors import InputError, Problem


def check_paths(paths: Sequence[Path]) -> int:
    """Print every problem as ``file:line:col: message``; returns the exit code."""
    wanted = list(paths) or [p for p in (Path("principles"), Path("constitution")) if p.is_dir()]
    if not wanted:
        raise InputError("there is no folder principles/ or constitution/ here; name the files to check")
    runs = [p for p in wanted if _is_run_file(p)]
    problems: list[Problem] = []
    for path in runs:
        try:
            load_config(path)
        except InputError as error:
            problems += error.problems
    problems += check([p for p in wanted if p not in runs])
    for problem in problems:
        print(problem, file=sys.stderr)
    count = len(problems)
    print("all is well" if not count else f"{count} problem{'s' if count > 1 else ''}")
    return 3 if problems else 0


def _is_run_file(path: Path) -> bool:
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    try:
        value = load(path).value
    except InputError:
        return False
    return isinstance(value, dict) and "prompts" in value and "constitution" in value
