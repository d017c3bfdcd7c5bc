"""``cai check``: all that is wrong with the files a user edits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cai.config import RunConfig, TrainingConfig
from cai.constitution.kinds import CONSTITUTION, PRINCIPLE, RUN, TRAINING, find_files
from cai.constitution.lint import lint
from cai.errors import InputError, Problem, in_order


def check_paths(paths: Sequence[Path], online: bool = False) -> int:
    """Print every problem as ``file:line:col: message``, each once; returns the exit code."""
    wanted = list(paths) or [p for p in (Path("principles"), Path("constitution")) if p.is_dir()]
    if not wanted:
        text = "there is no folder principles/ or constitution/ here; name the files to check"
        raise InputError(text)
    found = find_files(wanted)
    linted = lint(found.by_kind[PRINCIPLE], found.by_kind[CONSTITUTION])
    problems = {*found.problems, *linted.problems}
    others = [*found.by_kind[RUN], *found.by_kind[TRAINING]]
    for path in others:
        problems |= _check_file(path, online, run=path in found.by_kind[RUN])
    for problem in sorted(problems, key=in_order):
        print(problem, file=sys.stderr)
    files = [*linted.files, *others, *found.unknown]
    print(summary(len(files), len(problems), len(found.skipped)))
    return 3 if problems else 0


def summary(files: int, problems: int, skipped: int) -> str:
    """The last line: how many files were checked, and how many problems they have."""
    found = _counted(problems, "problem") if problems else "no problems"
    other = f"; {_counted(skipped, 'other YAML file')} skipped" if skipped else ""
    return f"{_counted(files, 'file')} checked, {found}{other}"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _check_file(path: Path, online: bool, *, run: bool) -> set[Problem]:
    """The problems of a run or training file; without any, names the models that need the hub."""
    from cai.pipeline.preflight import check_run, check_training, hub_names

    config: RunConfig | TrainingConfig
    try:
        config = (
            check_run(path, online=online).config if run else check_training(path, online=online)
        )
    except InputError as error:
        return set(error.problems)
    for key, name in hub_names(config, path.parent).items() if not online else ():
        print(
            f"{path}: {key}: {name} is not a folder here, so it is a model on the hub; --online looks for it there"
        )
    return set()
