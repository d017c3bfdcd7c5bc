"""A run on disk: its folder, its lock, and the models that it asks."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from filelock import BaseFileLock

from cai import distributed
from cai.arguments import check_record
from cai.backends import Backend, open_backend
from cai.backends.budget import Budget
from cai.backends.cached_model import CachedModel
from cai.backends.protocol import REASONING_TOKENS
from cai.backends.response_cache import ResponseCache
from cai.config import RunConfig
from cai.config.servers import Servers, is_batched, without_batches
from cai.constitution.lock import write_lock
from cai.constitution.schema import Constitution
from cai.errors import InputError, Problem
from cai.files import StrPath, write_text
from cai.functions import look_in
from cai.memory import give_back
from cai.models.names import find_model, is_function, is_server
from cai.pipeline.lock import LOCK, OWNER, is_unfinished, lock_folder
from cai.pipeline.prompt_sets import with_prompt_sets
from cai.pipeline.reporter import NullReporter, Reporter

CONFIG = "config.yaml"
CONSTITUTION_LOCK = "constitution.lock.yaml"
CACHE = "responses.sqlite"
BASE = ".base"


class OpenBackends:
    """The backends that a run has opened, each once; all stages of the run share them.

    Args:
        servers: The servers that models may be on, by name.
        reasoning_tokens: Tokens that a model which may reason can use for that.
    """

    def __init__(self, servers: Servers, reasoning_tokens: int = REASONING_TOKENS) -> None:
        self._servers = servers
        self._reasoning_tokens = reasoning_tokens
        self._opened: dict[tuple[str, str, bool, bool], Backend] = {}
        self._reported: set[str] = set()

    def get(
        self,
        model: str,
        chat_format: str = "",
        *,
        enable_thinking: bool = False,
        in_batches: bool = True,
    ) -> Backend:
        """A model's backend, opened the first time that it is asked for.

        Args:
            model: A model folder, hub id, server or function.
            chat_format: The chat format; empty: the tokenizer's own.
            enable_thinking: Whether the model may reason before it answers.
            in_batches: Whether a server's batch API may be used.
        """
        in_batches = in_batches or not is_batched(model, self._servers)
        key = (model, chat_format, enable_thinking, in_batches)
        if key not in self._opened:
            self._opened[key] = open_backend(
                model,
                chat_format,
                enable_thinking=enable_thinking,
                reasoning_tokens=self._reasoning_tokens,
                servers=self._servers if in_batches else without_batches(self._servers),
            )
        return self._opened[key]

    def put(self, model: str, backend: Backend) -> None:
        """Use a backend for a model instead of opening one.

        Args:
            model: The model's name.
            backend: Its backend, in whatever chat format it is asked for.
        """
        for enable_thinking in (False, True):
            self._opened[model, "", enable_thinking, True] = backend

    def release(self) -> None:
        """Let models in this process go until they are next needed, for training needs the memory.

        Servers and functions stay as they are.
        """
        for backend in self._opened.values():
            getattr(backend, "release", lambda: None)()
        give_back()

    def new_notes(self) -> list[str]:
        """Notes of the backends for the user, each once."""
        notes: list[str] = []
        for backend in self._opened.values():
            for note in getattr(backend, "notes", []):
                if note not in self._reported:
                    self._reported.add(note)
                    notes.append(note)
        return notes


@dataclass(frozen=True)
class Run:
    """A run that is open for work; as a context manager it closes its cache and lets the folder go.

    Attributes:
        folder: The folder of the run.
        config: Its settings.
        constitution: Its constitution.
        cache: The responses of all models that it has asked.
        base: The folder that relative paths of the settings start from.
        reporter: Where it reports what it does.
        lock: Keeps other processes out of the folder; None for a run that is only read.
    """

    folder: Path
    config: RunConfig
    constitution: Constitution
    cache: ResponseCache
    base: Path
    reporter: Reporter = field(default_factory=NullReporter)
    lock: BaseFileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cache.__exit__(kind, error, trace)
        if self.lock is not None:
            self.lock.release()

    @cached_property
    def backends(self) -> OpenBackends:
        """The models that it has opened."""
        return OpenBackends(self.config.servers, self.config.models.reasoning_tokens)

    @property
    def chat_format(self) -> str:
        """The chat format of the policies, or an empty string for that of their tokenizer."""
        return self.config.models.chat_format or ""

    def path(self, name: str) -> Path:
        """A path of the settings, relative to the run file.

        Args:
            name: The path as the settings name it.
        """
        return self.base / name

    def model(self, name: str) -> str:
        """The folder, hub id, server or function that the name of a model means.

        Args:
            name: The name as the settings give it.
        """
        return find_model(name, self.base, self.config.servers)

    def cached_model(
        self,
        model: str,
        stage: str,
        chat_format: str = "",
        *,
        enable_thinking: bool = False,
        shard: bool = True,
        in_batches: bool = True,
    ) -> CachedModel:
        """A model that is asked by way of the cache.

        Args:
            model: A model folder, hub id, server or function.
            stage: The stage that its requests are counted for.
            chat_format: The chat format; empty: the tokenizer's own.
            enable_thinking: Whether the model may reason before it answers.
            shard: Whether all processes make the same requests and share the work.
            in_batches: Whether a server's batch API may be used.
        """
        backend: Any = self.backends.get(
            model, chat_format, enable_thinking=enable_thinking, in_batches=in_batches
        )
        if hasattr(backend, "say"):
            backend.say = self.reporter.info
        return self.cache.cached_model(backend, stage, self.reporter.requests, shard=shard)

    def check_chat_templates(self) -> None:
        """Refuse a model in this process whose chat template cannot be used.

        Before anything is asked, since the judge may be needed hours after the first answer.

        Raises:
            InputError: With the reason.
        """
        config = self.config
        thinks = config.models.enable_thinking
        roles = [(config.models.initial, self.chat_format, False)]
        roles += [(name, "", thinks) for name in (config.critic_model, *config.judge_models)]
        for name, chat_format, enable_thinking in roles:
            model = self.model(name)
            if is_server(model, config.servers) or is_function(model):
                continue
            backend = self.backends.get(model, chat_format, enable_thinking=enable_thinking)
            getattr(backend, "format", None)  # opens the tokenizer and tries its template, once

    def critic(self, stage: str) -> CachedModel:
        """The model that writes critiques and revisions.

        Args:
            stage: The stage that its requests are counted for.
        """
        model = self.model(self.config.critic_model)
        return self.cached_model(model, stage, enable_thinking=self.config.models.enable_thinking)

    def judge(
        self, name: str, stage: str, *, shard: bool = True, in_batches: bool = True
    ) -> CachedModel:
        """A model that labels comparisons.

        Args:
            name: Its name, one of ``config.judge_models``.
            stage: The stage that its requests are counted for.
            shard: Whether all processes make the same requests and share the work.
            in_batches: Whether a server's batch API may be used.
        """
        return self.cached_model(
            self.model(name),
            stage,
            enable_thinking=self.config.models.enable_thinking,
            shard=shard,
            in_batches=in_batches,
        )

    def judges(
        self, stage: str, *, shard: bool = True, in_batches: bool = True
    ) -> tuple[CachedModel, ...]:
        """The models that label comparisons, most often one.

        Args:
            stage: The stage that their requests are counted for.
            shard: Whether all processes make the same requests and share the work.
            in_batches: Whether a server's batch API may be used.
        """
        return tuple(
            self.judge(name, stage, shard=shard, in_batches=in_batches)
            for name in self.config.judge_models
        )


def open_run(
    folder: StrPath,
    config: RunConfig,
    constitution: Constitution,
    base: StrPath,
    reporter: Reporter | None = None,
    budget: Budget | None = None,
) -> Run:
    """Make or open the folder of a run, and lock it against other processes.

    The settings and the constitution are written into the folder::

        with cai.open_run("runs/mine", config, constitution, ".") as run:
            metrics = cai.execute(run)

    Args:
        folder: The folder of the run; it is made if it does not exist.
        config: The settings.
        constitution: The constitution.
        base: The folder that relative paths of the settings start from.
        reporter: Where the run reports what it does; by default nowhere.
        budget: Limits on requests, tokens and money; by default none.

    Returns:
        The run. At the end of ``with`` its cache is closed, and others can work in its folder.

    Raises:
        ArgumentError: If ``config`` or ``constitution`` is something else, such as a name.
        InputError: If the folder exists and is no run, it cannot be written, another process works
            in it, or the processes were launched in a way that training does not support.
    """
    check_record("config", config, RunConfig)
    check_record("constitution", constitution, Constitution)
    folder, base = Path(folder), Path(base)
    distributed.check_launch()  # now, not hours later when training begins
    look_in(base)
    with ExitStack() as on_failure:
        # the others would see a folder that the main process has half filled
        lock = _locked(folder) if distributed.is_main() else None
        if lock is not None:
            on_failure.callback(lock.release)
        constitution = with_prompt_sets(constitution, config)
        distributed.on_main(_describe, folder, config, constitution, base)
        cache = ResponseCache(folder / CACHE, budget) if distributed.is_main() else None
        distributed.wait()  # two processes that create the cache at once would lock each other out
        cache = cache or ResponseCache(folder / CACHE, budget)
        on_failure.pop_all()
    return Run(folder, config, constitution, cache, base, reporter or NullReporter(), lock)


def _describe(folder: Path, config: RunConfig, constitution: Constitution, base: Path) -> None:
    """Write what a run is made from."""
    settings = config.model_dump(mode="json")
    write_text(folder / CONFIG, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    write_lock(constitution, folder / CONSTITUTION_LOCK)
    write_text(folder / BASE, os.path.relpath(base, folder))


def _locked(folder: Path) -> BaseFileLock:
    """Make the folder if there is none, and lock it.

    Raises:
        InputError: If the folder exists and is no run, it cannot be written, or another process
            has locked it.
    """
    try:
        if folder.exists():
            _check_is_run(folder)
        else:
            folder.mkdir(parents=True)
            folder.chmod(0o700)
    except OSError as error:
        raise InputError([Problem(str(folder), f"cannot be written: {error.strerror}")]) from None
    return lock_folder(folder)


def _check_is_run(folder: Path) -> None:
    """Refuse a folder that holds something else than a run, finished or only begun.

    Raises:
        InputError: With the reason.
    """
    if not folder.is_dir():
        raise InputError([Problem(str(folder), "cannot be written: it is a file")])
    names = {path.name for path in folder.iterdir()}
    if CONSTITUTION_LOCK in names and CONFIG in names:
        return
    begun = {LOCK, OWNER, BASE, *([CONFIG] if OWNER in names else [])}
    if any(name not in begun and not is_unfinished(name) for name in names):
        text = "is not the folder of a run, and is left as it is; name a new folder"
        raise InputError([Problem(str(folder), text)])


def base_of(folder: Path) -> Path:
    """The folder that relative paths of a run's settings start from: that of its run file.

    Args:
        folder: The folder of a run.
    """
    path = folder / BASE
    try:
        return folder / path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return folder
