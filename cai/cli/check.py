"""``cai check``: every problem of the files that a user edits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cai.config import RunConfig, TrainingConfig
from cai.config.suite import Words
from cai.config.suite_files import load_suite
from cai.constitution.kinds import CONSTITUTION, PRINCIPLE, RUN, SUITE, TRAINING, find_files
from cai.constitution.lint import lint
from cai.errors import InputError, Problem, in_order


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATHS", help="Files or folders; by default ./principles, ./constitution."
        ),
    ] = None,
    *,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the servers and the hub named in run files.")
    ] = False,
) -> None:
    """Check principles, constitutions, run files and suites.

    Prints every problem as file:line:col: message. Of a run file, everything that it names is
    checked too: data, models, functions and packages.

    Example: cai check examples/quickstart.yaml
    """
    raise typer.Exit(check_paths(paths or [], online=online))


def check_paths(paths: Sequence[Path], *, online: bool = False) -> int:
    """Print every problem once; returns the exit code.

    Args:
        paths: Files and folders; if empty, the two folders of the working folder.
        online: Also ask the servers and the hub that run files name.

    Raises:
        InputError: if no path is given and there is neither folder.
    """
    wanted = list(paths) or [p for p in (Path("principles"), Path("constitution")) if p.is_dir()]
    if not wanted:
        raise InputError("there is no folder principles/ or constitution/; name the files to check")
    files = find_files(wanted)
    linted = lint(files.by_kind[PRINCIPLE], files.by_kind[CONSTITUTION])
    problems = {*files.problems, *linted.problems}
    for path in files.by_kind[RUN]:
        problems |= _check_file(path, RunConfig, online=online)
    for path in files.by_kind[TRAINING]:
        problems |= _check_file(path, TrainingConfig, online=online)
    for path in files.by_kind[SUITE]:
        problems |= _check_suite(path)
    for problem in sorted(problems, key=in_order):
        print(problem, file=sys.stderr)
    for note in linted.notes:
        print(f"note: {note}")
    others = [path for kind in (RUN, TRAINING, SUITE) for path in files.by_kind[kind]]
    checked = [*linted.files, *others, *files.unknown]
    print(summary(len(checked), len(problems), len(files.skipped)))
    return InputError.exit_code if problems else 0


def summary(files: int, problems: int, skipped: int) -> str:
    """Say in one line how many files were checked, and how many problems they have."""
    result = _count(problems, "problem") if problems else "no problems"
    others = f"; {_count(skipped, 'other YAML file')} skipped" if skipped else ""
    return f"{_count(files, 'file')} checked, {result}{others}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _check_suite(path: Path) -> set[Problem]:
    """The problems of a suite and of the files that it names."""
    from cai.evaluate.graders.word_lists import word_list

    try:
        suite = load_suite(path)
        if isinstance(suite.grader, Words):
            word_list(suite.grader.list)
    except InputError as error:
        return set(error.problems)
    if not Path(suite.prompts).is_file():
        return {Problem(str(path), f"there is no file {suite.prompts}")}
    return set()


def _check_file(
    path: Path, kind: type[RunConfig] | type[TrainingConfig], *, online: bool
) -> set[Problem]:
    """The problems of a run or training file; of one without, prints the models of the hub."""
    from cai.pipeline.preflight import check_run, check_training, hub_names

    config: RunConfig | TrainingConfig
    try:
        if kind is RunConfig:
            config = check_run(path, online=online).config
        else:
            config = check_training(path, online=online)
    except InputError as error:
        return set(error.problems)
    if not online:
        for key, name in hub_names(config, path.parent).items():
            print(
                f"{path}: {key}: {name} is not a folder here, so it is a model on the hub; "
                "--online looks it up"
            )
    return set()
