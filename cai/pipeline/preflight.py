"""What would stop a run hours later is reported before it starts, all at once.

:func:`check_run` and :func:`check_training` read a file, look for everything it names, and raise
one ``InputError`` with every problem. Nothing is written and no model is opened; servers and the
hub are asked only with ``online``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cai.backends import ping, server_address
from cai.config import ParsedConfig, RunConfig, TrainingConfig, parse_config
from cai.config.servers import Servers
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
from cai.pipeline.packages import AnyParsed, is_installed, missing_packages
from cai.pipeline.principle_checks import missing_principles, unknown_principles
from cai.pipeline.prompt_sets import prompt_files, with_prompt_sets
from cai.pipeline.stage import PlannedStage
from cai.pipeline.stages import plan_stages

Loc = tuple[str | int, ...]
TRAINED_ROLES = ("initial", "reward")
"""Models of a run file that are trained, which a server or a function cannot be."""
GOLD_STAGES = ("ppo", "evaluate")
"""The stages that call the gold function."""
TRAINING_STAGES = ("sft", "control", "reward", "ppo", "dpo")


class CheckedRun(NamedTuple):
    """A run file without problems.

    Attributes:
        config: The settings.
        constitution: The constitution that it names.
        source: The constitution's file.
    """

    config: RunConfig
    constitution: Constitution
    source: Path


@dataclass(frozen=True)
class Place:
    """Where models are looked for.

    Attributes:
        base: The folder of the run file.
        servers: Its servers.
        online: Whether servers and the hub are asked.
    """

    base: Path
    servers: Servers
    online: bool = False


@dataclass(frozen=True)
class NamedThing:
    """Something that a file names, and how to check it.

    Attributes:
        loc: Where it is named in the file.
        name: Its name; None if the file does not name one.
        check: Raises InputError if a run could not use it.
    """

    loc: Loc
    name: str | None
    check: Callable[[str], object]


def check_run(
    path: Path,
    overrides: Sequence[str] = (),
    until: str = "",
    *,
    models: bool = True,
    online: bool = False,
) -> CheckedRun:
    """Read a run file and check everything that its stages will need.

    Args:
        path: The run file.
        overrides: Settings as ``section.key=value`` that replace those of the file.
        until: The last stage to do; what only later ones need is not checked.
        models: Check models, functions and packages too, not only settings and data.
        online: Also ask servers and the hub whether they have the models.

    Raises:
        InputError: With every problem of the settings, the constitution and what is named.
    """
    parsed = parse_config(path, RunConfig, overrides)
    problems, found = list(parsed.problems), None
    if parsed.config is not None:
        look_in(path.parent)
        stages = _stages_until(parsed.config, until)
        named = list(_run_data(parsed.config, path.parent, stages))
        if models:
            named += _run_models(parsed.config, path.parent, stages, online=online)
            if any(planned.stage.name in TRAINING_STAGES for planned in stages):
                problems += missing_packages(parsed)
        problems += _problems(parsed, named)
        found, more = _find_constitution(parsed, path.parent)
        problems += more
        if found is not None:
            problems += unknown_principles(parsed, found[0])
            problems += missing_principles(parsed, found[0], stages)
    if problems or found is None or parsed.config is None:
        raise InputError(problems)
    constitution, source = found
    return CheckedRun(parsed.config, with_prompt_sets(constitution, parsed.config), source)


def check_training(
    path: Path, overrides: Sequence[str] = (), stage: str = "", *, online: bool = False
) -> TrainingConfig:
    """Read a training file and check everything that its stages, or one of them, will need.

    Args:
        path: The training file.
        overrides: Settings as ``section.key=value`` that replace those of the file.
        stage: ``sft``, ``reward``, ``ppo`` or ``dpo``; empty: all of them.
        online: Also ask the hub whether it has the models.

    Raises:
        InputError: With every problem of the settings and of what is named.
    """
    parsed = parse_config(path, TrainingConfig, overrides)
    problems = list(parsed.problems)
    if parsed.config is not None:
        problems += missing_packages(parsed)
        named = _training_names(parsed.config, path.parent, stage, online=online)
        problems += _problems(parsed, named)
    if problems or parsed.config is None:
        raise InputError(problems)
    return parsed.config


def hub_names(config: RunConfig | TrainingConfig, base: Path) -> dict[str, str]:
    """The models that will be downloaded from the hub, by the setting that names them.

    Args:
        config: A run or training file without problems.
        base: The folder of the file.
    """
    names: dict[str, str | None] = {"constraint.model": config.constraint.model}
    if isinstance(config, RunConfig):
        for role in ("initial", "critic", "judge", "reward"):
            for loc, name in names_of_role(config, role):
                if name and not is_server(name, config.servers):
                    names[".".join(map(str, loc))] = name
    else:
        names |= {"model": config.model, "reward_model": config.reward_model}
    return {key: name for key, name in names.items() if name and is_hub_id(name, base)}


def names_of_role(config: RunConfig, role: str) -> list[tuple[Loc, str | None]]:
    """The models of a role, each with the place of its name in the run file.

    Args:
        config: The settings.
        role: ``initial``, ``critic``, ``judge`` or ``reward``; only ``judge`` may have several.
    """
    value = getattr(config.models, role)
    if isinstance(value, tuple):
        return [(("models", role, i), name) for i, name in enumerate(value)]
    return [(("models", role), value)]


def _stages_until(config: RunConfig, until: str) -> tuple[PlannedStage, ...]:
    """The stages up to ``until``; all of them if there is no such stage, which is found later."""
    stages = plan_stages(config)
    names = [planned.name for planned in stages]
    return stages[: names.index(until) + 1] if until in names else stages


def _run_data(
    config: RunConfig, base: Path, stages: Sequence[PlannedStage]
) -> Iterator[NamedThing]:
    """Prompts, and the human data that one of the stages reads."""
    for file in prompt_files(config):
        yield NamedThing(("prompts", *file.setting), file.name, _reader(_prompts, base))
    readers = [planned.stage for planned in stages if planned.stage.name != "prompts"]
    files = {name for stage in readers for name in stage.files(config)}
    for section, key, read in HUMAN_FILES:
        for i, name in enumerate(getattr(getattr(config, section), key)):
            if name in files:
                yield NamedThing((section, key, i), name, _reader(read, base))


def _run_models(
    config: RunConfig, base: Path, stages: Sequence[PlannedStage], *, online: bool
) -> Iterator[NamedThing]:
    """Models and functions that one of the stages opens."""
    opened = {role for planned in stages for role in planned.stage.models}
    names = {planned.stage.name for planned in stages}
    for role in ("initial", "critic", "judge", "reward"):
        if role in opened:
            check = partial(
                check_model,
                place=Place(base, config.servers, online=online),
                trained=role in TRAINED_ROLES and "sft" in names,
                chat_format=(config.models.chat_format or "") if role == "initial" else "",
            )
            for loc, name in names_of_role(config, role):
                yield NamedThing(loc, name, check)
    if "constraint" in opened:
        folder = partial(_check_folder, base=base, online=online)
        yield NamedThing(("constraint", "model"), config.constraint.model, folder)
    if names.intersection(GOLD_STAGES):
        yield NamedThing(("evaluate", "gold"), config.evaluate.gold, load_gold)
    if "ppo" in names:
        yield from _reward_functions(config)


def _reward_functions(config: RunConfig | TrainingConfig) -> Iterator[NamedThing]:
    for i, term in enumerate(config.ppo.rollout.reward_functions):
        loc = ("ppo", "rollout", "reward_functions", i, "function")
        yield NamedThing(loc, term.function, function_of)


def _training_names(
    config: TrainingConfig, base: Path, stage: str, *, online: bool
) -> Iterator[NamedThing]:
    """What a stage of a training file needs; its data only if all stages are checked.

    A stage reads its data when it begins, so checking it before would only read it twice.
    """
    folder = partial(_check_folder, base=base, online=online)
    yield NamedThing(("model",), config.model, folder)
    if stage in ("", "ppo"):
        yield NamedThing(("reward_model",), config.reward_model, folder)
        yield NamedThing(("constraint", "model"), config.constraint.model, folder)
        yield from _reward_functions(config)
    if stage in ("", "reward"):
        for i, name in enumerate(config.reward.test_sets):
            yield NamedThing(("reward", "test_sets", i), name, _reader(read_preferences, base))
    if stage:
        return
    for key, read in DATA_READERS.items():
        for i, name in enumerate(getattr(config.data, key)):
            yield NamedThing(("data", key, i), name, _reader(read, base))


def _problems(parsed: AnyParsed, named: Iterable[NamedThing]) -> Iterator[Problem]:
    """The problems of all that is named: in a row of a file at the row, else where it is named."""
    for thing in named:
        if thing.name is None:
            continue
        try:
            thing.check(thing.name)
        except InputError as error:
            for problem in error.problems:
                yield _placed(problem, thing, parsed)


def _placed(problem: Problem, thing: NamedThing, parsed: AnyParsed) -> Problem:
    if problem.where not in ("", thing.name):
        return problem
    key = ".".join(part for part in thing.loc if isinstance(part, str))
    subject = f"{key}: {thing.name}" if problem.where else key
    return Problem(parsed.document.where(thing.loc), f"{subject}: {problem.message}")


def _find_constitution(
    parsed: ParsedConfig[RunConfig], base: Path
) -> tuple[tuple[Constitution, Path] | None, list[Problem]]:
    name = parsed.config.constitution if parsed.config else ""
    if not name:
        return None, []
    try:
        source = find_constitution(name, base)
    except InputError as error:
        where = parsed.document.where(("constitution",))
        return None, [Problem(where, f"constitution: {name}: {p.message}") for p in error.problems]
    try:
        return (load_constitution(source), source), []
    except InputError as error:
        return None, error.problems


def _reader(read: Callable[[Path], object], base: Path) -> Callable[[str], object]:
    """A check that reads a whole file, so that every row that cannot be used is named."""

    def check(name: str) -> None:
        path = base / name
        without_column = path.with_name(path.name.rpartition("#")[0] or path.name)
        if not path.exists() and not without_column.is_file():
            raise InputError(f"there is no {path}")
        read(path)

    return check


def _prompts(path: Path) -> object:
    return read_prompts(path, "")


HUMAN_FILES: tuple[tuple[str, str, Callable[[Path], object]], ...] = (
    ("sft", "human", read_demonstrations),
    ("reward", "human", read_preferences),
    ("reward", "test_sets", read_preferences),
)
DATA_READERS: dict[str, Callable[[Path], object]] = {
    "demonstrations": read_demonstrations,
    "preferences": read_preferences,
    "prompts": _prompts,
}


def check_model(name: str, place: Place, *, trained: bool, chat_format: str) -> None:
    """Check that a model of any kind can be used; one that is trained must be a folder or a hub id.

    Args:
        name: The model.
        place: Where to look for it, and whether to ask its server or the hub.
        trained: Whether it will be trained.
        chat_format: The chat format that it is asked in; empty: its own.

    Raises:
        InputError: With what is wrong.
    """
    is_on_server = is_server(name, place.servers)
    if trained and (is_on_server or is_function(name)):
        raise InputError("this model is trained, so it must be a folder or a hub id")
    if is_on_server:
        _check_server(name, chat_format, place)
        return
    found = find_model(name, place.base)
    if is_function(found):
        function_of(found)
    else:
        _check_folder(name, place.base, online=place.online)


def _check_folder(name: str, base: Path, *, online: bool) -> None:
    """A model folder or hub id; the hub is asked only if there is no folder."""
    if name == REFERENCE:
        return
    if is_server(name) or ":" in name:
        raise InputError(f"{name} is neither a model folder nor a hub id")
    folder = Path(find_model(name, base))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"the folder {folder} has no config.json, so it is not a model")
    if online:
        check_available(name, base)


def _check_server(name: str, chat_format: str, place: Place) -> None:
    problem = server_address.form_problem(name, place.servers)
    if problem:
        raise InputError(problem)
    missing = [package for package in ("openai", "httpx2") if not is_installed(package)]
    if missing:
        packages = " and ".join(missing)
        raise InputError(f'requests to a server need {packages}: pip install "cai[server]"')
    found = server_address.addresses_of(name, place.servers)
    for address in found:
        server_address.access_to(address)  # the key and the headers
    if not place.online:
        return
    model = server_address.model_of(name, place.servers)
    answers = [ping.ping(a.url, model, chat_format, address=a) for a in found]
    problems = [Problem("", text) for text in answers if text]
    if problems:
        raise InputError(problems)
