"""What a run file names must be there before the run starts, not hours later where it is first read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai.config import RunConfig
from cai.documents import load
from cai.errors import InputError, Problem
from cai.functions import function_of
from cai.pipeline.stages import stages_of

Place = tuple[str | int, ...]


def check_named(path: Path, config: RunConfig, until: str = "") -> None:
    """Look for every file, folder and function that the run of a file, up to the stage ``until``, will want.

    Raises:
        InputError: naming all that are not there.
    """
    stages = stages_of(config)
    names = [stage.name for stage in stages]
    wanted = stages[: names.index(until) + 1] if until in names else stages
    files = {name for stage in wanted for name in stage.reads(config)}
    document, problems = load(path), []
    for place, name in _texts(config.model_dump()):
        what = ".".join(str(key) for key in place if isinstance(key, str))
        if name in files and not _is_there(path.parent / name):
            problems.append(Problem(document.where(place), f"{what}: there is no {path.parent / name}"))
        elif place[0] == "models" and name.startswith(("/", "./", "../")) and not Path(name).is_dir():
            problems.append(Problem(document.where(place), f"{what}: there is no folder {name}"))
        elif what == "evaluate.gold" and name:
            try:
                function_of(name)
            except InputError as error:
                problems += [Problem(document.where(place), f"{what}: {problem}") for problem in error.problems]
    if problems:
        raise InputError(problems)


def _texts(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every text in nested settings and where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict | list | tuple):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(inner, (*place, key))


def _is_there(path: Path) -> bool:
    """A column may follow the name of a file."""
    return path.exists() or path.with_name(path.name.rpartition("#")[0] or path.name).is_file()
