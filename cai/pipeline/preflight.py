"""What would stop a run hours later is reported before it starts, all at once.

:func:`check_run` and :func:`check_training` read a file, look for everything it names, and raise one
``InputError`` with every problem. Nothing is written and no model is opened; only with ``online`` are
servers and the hub asked whether they are there.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cai.backends import ping, server_address
from cai.config import ParsedConfig, RunConfig, TrainingConfig, parse_config
from cai.constitution.load import find_constitution, load_constitution
from cai.constitution.schema import Constitution
from cai.data.demonstrations import read_demonstrations
from cai.data.preferences import read_preferences
from cai.data.prompts import read_prompts
from cai.errors import InputError, Problem
from cai.evaluate.gold import load_gold
from cai.functions import function_of, look_in
from cai.models.names import (
    REFERENCE,
    check_available,
    find_model,
    is_function,
    is_hub_id,
    is_server,
)
from cai.pipeline.stages import stages_of

Place = tuple[str | int, ...]
AnyFile = ParsedConfig[RunConfig] | ParsedConfig[TrainingConfig]
FIRST_ASKED = {"initial": "sample", "critic": "revise", "judge": "judge", "reward": "reward"}
"""The stage that first opens each model of a run file."""
TRAINED = ("initial", "reward")
"""Models of a run file that are trained, which a server or a function cannot be."""
TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""Packages of which a tracker needs one; the others are named like their package."""


class Ready(NamedTuple):
    """A run file that passed, with the constitution it names."""

    config: RunConfig
    constitution: Constitution
    source: Path
    """The constitution's file."""


class Named(NamedTuple):
    """Something that a file names: where, the name, and how to check it."""

    loc: Place
    name: str | None
    check: Callable[[str], object]
    """Raises InputError if a run could not use it."""


def check_run(
    path: Path,
    settings: Sequence[str] = (),
    until: str = "",
    *,
    models: bool = True,
    online: bool = False,
) -> Ready:
    """Read a run file and check all that its stages will need.

    Args:
        path: The run file.
        settings: ``a.b=value`` settings that override it.
        until: The last stage to be run; what only later ones need is not checked.
        models: Check models, functions and packages too, not only settings and data.
        online: Also ask servers and the hub whether they have the models.

    Raises:
        InputError: with every problem of the settings, the constitution and all that is named.
    """
    parsed = parse_config(path, RunConfig, settings)
    problems, found = list(parsed.problems), None
    if parsed.config is not None:
        look_in(path.parent)
        stages = _stages(parsed.config, until)
        named = [*_run_data(parsed.config, path.parent, stages)]
        if models:
            named += _run_models(parsed.config, path.parent, stages, online)
            problems += _missing_packages(parsed, "sft" in stages)
        problems += _problems(parsed, named)
        found, wrong = _constitution(parsed, path.parent)
        problems += wrong
    if problems or found is None or parsed.config is None:
        raise InputError(problems)
    return Ready(parsed.config, *found)


def check_training(
    path: Path, settings: Sequence[str] = (), stage: str = "", *, online: bool = False
) -> TrainingConfig:
    """Read a training file and check all that its stages, or one of them, will need.

    Raises:
        InputError: with every problem of the settings and of all that is named.
    """
    parsed = parse_config(path, TrainingConfig, settings)
    problems = list(parsed.problems)
    if parsed.config is not None:
        problems += _missing_packages(parsed, training=True)
        problems += _problems(parsed, [*_training_names(parsed.config, path.parent, stage, online)])
    if problems or parsed.config is None:
        raise InputError(problems)
    return parsed.config


def hub_names(config: RunConfig | TrainingConfig, base: Path) -> dict[str, str]:
    """The models of a file that passed that will be fetched from the hub, by the key that names them."""
    if isinstance(config, RunConfig):
        named = {f"models.{part}": getattr(config.models, part) for part in FIRST_ASKED}
    else:
        named = {"model": config.model, "reward_model": config.reward_model}
    named["constraint.model"] = config.constraint.model
    return {key: name for key, name in named.items() if name and is_hub_id(name, base)}


def _stages(config: RunConfig, until: str) -> list[str]:
    names = [stage.name for stage in stages_of(config)]
    return names[: names.index(until) + 1] if until in names else names


def _run_data(config: RunConfig, base: Path, stages: Sequence[str]) -> Iterator[Named]:
    """Prompts and human data that one of the stages reads."""
    readers = [s for s in stages_of(config) if s.name in stages and s.name != "prompts"]
    wanted = {name for stage in readers for name in stage.reads(config)}
    for key in ("red_team", "benign", "eval_red_team", "eval_benign"):
        yield Named(("prompts", key), getattr(config.prompts, key), _reader(_prompts, base))
    for key in ("human", "test_sets"):
        for i, name in enumerate(getattr(config.reward, key)):
            if name in wanted:
                yield Named(("reward", key, i), name, _reader(read_preferences, base))


def _run_models(
    config: RunConfig, base: Path, stages: Sequence[str], online: bool
) -> Iterator[Named]:
    """Models and functions that one of the stages opens."""
    for part, stage in FIRST_ASKED.items():
        if stage in stages:
            trained = part in TRAINED and "sft" in stages
            chat_format = (config.models.chat_format or "") if part == "initial" else ""
            check = partial(
                _model, base=base, online=online, trained=trained, chat_format=chat_format
            )
            yield Named(("models", part), getattr(config.models, part), check)
    if "ppo" in stages:
        folder = partial(_folder, base=base, online=online)
        yield Named(("constraint", "model"), config.constraint.model, folder)
        yield Named(("evaluate", "gold"), config.evaluate.gold, load_gold)


def _training_names(
    config: TrainingConfig, base: Path, stage: str, online: bool
) -> Iterator[Named]:
    """What the stage of a training file needs; data that it reads at its start only where all is checked."""

    folder = partial(_folder, base=base, online=online)
    yield Named(("model",), config.model, folder)
    if stage in ("", "ppo"):
        yield Named(("reward_model",), config.reward_model, folder)
        yield Named(("constraint", "model"), config.constraint.model, folder)
    if stage in ("", "reward"):
        for i, name in enumerate(config.reward.test_sets):
            yield Named(("reward", "test_sets", i), name, _reader(read_preferences, base))
    for key, read in DATA_READERS.items() if not stage else ():
        for i, name in enumerate(getattr(config.data, key)):
            yield Named(("data", key, i), name, _reader(read, base))


def _problems(parsed: AnyFile, named: Sequence[Named]) -> Iterator[Problem]:
    """The problems of all that is named: in a row of a file at the row, else where it is named."""
    for loc, name, check in named:
        if not name:
            continue
        try:
            check(name)
        except InputError as error:
            for problem in error.problems:
                yield _placed(problem, name, loc, parsed)


def _placed(problem: Problem, name: str, loc: Place, parsed: AnyFile) -> Problem:
    if problem.where not in ("", name):
        return problem
    key = ".".join(part for part in loc if isinstance(part, str))
    subject = f"{key}: {name}" if problem.where else key
    return Problem(parsed.document.where(loc), f"{subject}: {problem.message}")


def _constitution(
    parsed: ParsedConfig[RunConfig], base: Path
) -> tuple[tuple[Constitution, Path] | None, list[Problem]]:
    spec = parsed.config.constitution if parsed.config else ""
    if not spec:
        return None, []
    try:
        source = find_constitution(spec, base)
    except InputError as error:
        where = parsed.document.where(("constitution",))
        return None, [Problem(where, f"constitution: {spec}: {p.message}") for p in error.problems]
    try:
        return (load_constitution(source), source), []
    except InputError as error:
        return None, error.problems


def _reader(read: Callable[[Path], object], base: Path) -> Callable[[str], object]:
    """A check that reads a whole file, so that every row that cannot be used is named."""

    def check(name: str) -> None:
        path = base / name
        file = path.with_name(path.name.rpartition("#")[0] or path.name)  # a column may follow
        if not path.exists() and not file.is_file():
            raise InputError(f"there is no {path}")
        read(path)

    return check


def _prompts(path: Path) -> object:
    return read_prompts(path, "")


DATA_READERS: dict[str, Callable[[Path], object]] = {
    "demonstrations": read_demonstrations,
    "preferences": read_preferences,
    "prompts": _prompts,
}


def _model(name: str, base: Path, online: bool, *, trained: bool, chat_format: str) -> None:
    if trained and (is_server(name) or is_function(name)):
        raise InputError("this model is trained, so it must be a folder or a hub id")
    if is_server(name):
        _server(name, online, chat_format)
    elif is_function(found := find_model(name, base)):
        function_of(found)
    else:
        _folder(name, base, online)


def _folder(name: str, base: Path, online: bool) -> None:
    """A model folder or hub id; the hub is asked only if there is no folder."""
    if name == REFERENCE:
        return
    if is_server(name) or ":" in name:
        raise InputError(f"{name} is neither a model folder nor a hub id")
    found = Path(find_model(name, base))
    if found.is_dir() and not (found / "config.json").is_file():
        raise InputError(f"the folder {found} holds no model: it has no config.json")
    if online:
        check_available(name, base)


def _server(spec: str, online: bool, chat_format: str) -> None:
    if problem := server_address.form_problem(spec):
        raise InputError(problem)
    if absent := [name for name in ("openai", "httpx2") if not _is_installed(name)]:
        packages = " and ".join(absent)
        raise InputError(f'asking a server needs {packages}: pip install "cai[server]"')
    model = spec.partition("#")[2]
    problems = [ping.ping(url, model, chat_format) for url in server_address.urls_of(spec)] if online else []
    if any(problems):
        raise InputError([Problem("", problem) for problem in problems if problem])


def _missing_packages(parsed: AnyFile, training: bool) -> Iterator[Problem]:
    config = parsed.config
    if not training or config is None:
        return
    if config.training.lora_rank and not _is_installed("peft"):
        where = parsed.document.where(("training", "lora_rank"))
        text = 'training.lora_rank: adapters need the peft package: pip install "cai[lora]"'
        yield Problem(where, text)
    for i, tracker in enumerate(config.trackers):
        packages = TRACKER_PACKAGES.get(tracker, (tracker,))
        if not any(map(_is_installed, packages)):
            text = f"trackers: {tracker} is not installed: pip install {packages[0]}"
            yield Problem(parsed.document.where(("trackers", i)), text)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # imported without a spec
        return False
