"""A run on disk: what is in its folder, when a stage is finished, and who may write to it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, Timeout

from cai import distributed
from cai.backends import Backend, open_backend
from cai.backends.budget import Budget
from cai.backends.response_cache import CachedModel, ResponseCache
from cai.config import RunConfig
from cai.constitution.lock import write_lock
from cai.constitution.schema import Constitution
from cai.errors import InputError, Problem
from cai.files import disk_errors, read_json, sha256, write_json, write_text
from cai.functions import look_in
from cai.keys import digest
from cai.models.names import find_model
from cai.pipeline.layout import stage_name
from cai.pipeline.reporter import NullReporter, Reporter

FORMAT = 1
"""Version of what stages write; a change makes every stage of older runs stale."""


@dataclass
class Run:
    """A run that is open for work."""

    folder: Path
    config: RunConfig
    constitution: Constitution
    cache: ResponseCache
    base: Path  # the folder that the config's relative paths start from
    reporter: Reporter = field(default_factory=NullReporter)
    lock: BaseFileLock | None = None  # held as long as the run lives
    round: int = 1  # the round that is at work; what is made once has no round
    _backends: dict[tuple[str, str, bool], Backend] = field(default_factory=dict)
    _reported: list[str] = field(default_factory=list)

    def named(self, stage: str) -> str:
        """A stage's name in the round at work: ``judge``, ``judge-2``, ..."""
        return stage_name(stage, self.round)

    def at(self, round: int) -> Run:
        """The same run, looked at in another round."""
        return dataclasses.replace(self, round=round)

    def stage_folder(self, stage: str) -> Path:
        return self.folder / self.named(stage)

    def records(self, stage: str) -> Path:
        return self.stage_folder(stage) / "records.jsonl"

    def checkpoint(self, stage: str) -> Path:
        return self.stage_folder(stage) / "checkpoint"

    def cached_model(
        self,
        model: str,
        stage: str,
        chat_format: str = "",
        enable_thinking: bool = False,
        *,
        shard: bool = True,
    ) -> CachedModel:
        """A model by way of the memo, counted for a stage; ``shard``: all processes ask the same and share the work."""
        key = (model, chat_format, enable_thinking)
        if key not in self._backends:
            self._backends[key] = open_backend(model, chat_format, enable_thinking=enable_thinking)
        return self.cache.cached_model(
            self._backends[key], self.named(stage), self.reporter.requests, shard=shard
        )

    def critic(self, stage: str) -> CachedModel:
        """The model that writes critiques and revisions."""
        return self.cached_model(
            self.model(self.config.critic_model),
            stage,
            enable_thinking=self.config.models.enable_thinking,
        )

    def judge(self, stage: str, *, shard: bool = True) -> CachedModel:
        """The model that labels comparisons."""
        judge = self.model(self.config.judge_model)
        return self.cached_model(
            judge, stage, enable_thinking=self.config.models.enable_thinking, shard=shard
        )

    def notes(self) -> list[str]:
        """What backends have to say that a user should know, each once."""
        found = [
            note for backend in self._backends.values() for note in getattr(backend, "notes", [])
        ]
        new = [note for note in dict.fromkeys(found) if note not in self._reported]
        self._reported += new
        return new

    @property
    def chat_format(self) -> str:
        """The chat format of the policies; empty: that of their tokenizer."""
        return self.config.models.chat_format or ""

    def path(self, name: str) -> Path:
        """A path of the config, relative to the run file."""
        return self.base / name

    def model(self, name: str) -> str:
        """The folder or hub id that the name of a model in the config means."""
        return find_model(name, self.base)

    # -- manifests -----------------------------------------------------------------------------------------------------

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a finished stage, or None."""
        path = self.stage_folder(stage) / "manifest.json"
        if not path.is_file():
            return None
        loaded: dict[str, Any] = read_json(path)
        return loaded

    def is_whole(self, stage: str) -> bool:
        """Whether a stage is finished, and its files are as they were written."""
        manifest = self.manifest(stage)
        if manifest is None:
            return False
        folder = self.stage_folder(stage)
        return all(
            (folder / name).is_file() and sha256(folder / name) == known
            for name, known in manifest["outputs"].items()
        )

    def finish(
        self, stage: str, made_from: dict[str, Any], metrics: dict[str, Any], seconds: float
    ) -> None:
        """Write the manifest, which is what makes a stage finished."""
        folder = self.stage_folder(stage)
        files = sorted(
            p
            for p in folder.rglob("*")
            if p.is_file()
            and p.name not in ("manifest.json", "log.jsonl")
            and not p.name.startswith(".")
        )
        manifest = {
            "stage": stage,
            "made_from": made_from,
            "seconds": round(seconds, 1),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
            "metrics": metrics,
            "outputs": {p.relative_to(folder).as_posix(): sha256(p) for p in files},
        }
        distributed.on_main(write_json, folder / "manifest.json", manifest)

    def output_digest(self, stage: str) -> str:
        """Digest of what a finished stage wrote; empty for one that is not finished."""
        manifest = self.manifest(stage)
        return digest(manifest["outputs"]) if manifest else ""

    def log(self, stage: str) -> Callable[[dict[str, float]], None]:
        """A function that appends rows to the stage's ``log.jsonl`` and shows how far training is."""
        return training_log(self.stage_folder(stage) / "log.jsonl", self.reporter)


def training_log(
    path: Path, reporter: Reporter, every: float = 1.0
) -> Callable[[dict[str, float]], None]:
    """A function that appends rows to a file and shows how far training is, at most once in ``every`` seconds.

    Of what the file held before, the rows of earlier steps stay: a training that was killed goes on in it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    last, begun = 0.0, False

    def write(row: dict[str, float]) -> None:
        nonlocal last, begun
        done, total = (
            _step(row),
            int(row.get("num_updates", row.get("steps", 0))),
        )  # an update has steps of its own
        if not begun:
            old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            kept = (
                line + "\n" for line in old if line.endswith("}") and _step(json.loads(line)) < done
            )
            distributed.on_main(write_text, path, "".join(kept))
            begun = True
        if distributed.is_main():
            with disk_errors(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if time.monotonic() - last > every or done == total:
            last = time.monotonic()
            shown = ", ".join(
                f"{name} {row[name]:.3g}"
                for name in ("loss", "score", "kl", "length")
                if name in row
            )
            reporter.progress(done, total, shown)

    return write


def _step(row: dict[str, float]) -> int:
    return int(row.get("step", row.get("update", 0)))


def open_run(
    folder: Path,
    config: RunConfig,
    constitution: Constitution,
    base: Path,
    reporter: Reporter | None = None,
    budget: Budget | None = None,
) -> Run:
    """Make or open a run's folder, lock it against a second process, and write down what is asked of it.

    Raises:
        InputError: if the folder cannot be written, another process works in it, or it was launched as training cannot be.
    """
    distributed.check_launch()  # now, not hours later where training begins
    look_in(base)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chmod(folder, 0o700)
        lock = FileLock(folder / ".lock") if distributed.is_main() else None
        if lock:
            lock.acquire(timeout=0)
    except Timeout:
        owner = (
            (folder / ".owner").read_text(encoding="utf-8")
            if (folder / ".owner").is_file()
            else "another process"
        )
        raise InputError([Problem(str(folder), f"is in use by {owner}")]) from None
    except OSError as error:
        raise InputError([Problem(str(folder), f"cannot be written: {error.strerror}")]) from None
    distributed.on_main(
        write_text, folder / ".owner", f"process {os.getpid()} on {socket.gethostname()}"
    )
    distributed.on_main(
        write_text,
        folder / "config.yaml",
        yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
    )
    distributed.on_main(write_lock, constitution, folder / "constitution.lock.yaml")
    distributed.on_main(write_text, folder / ".base", os.path.relpath(base, folder))
    cache = ResponseCache(folder / "responses.sqlite", budget) if distributed.is_main() else None
    distributed.wait()  # two processes that make the memo at the same moment would lock each other out
    return Run(
        folder,
        config,
        constitution,
        cache or ResponseCache(folder / "responses.sqlite", budget),
        base,
        reporter or NullReporter(),
        lock,
    )


def base_of(folder: Path) -> Path:
    """The folder that the paths in a run's config start from: that of its run file."""
    written = folder / ".base"
    return folder / written.read_text(encoding="utf-8") if written.is_file() else folder


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("cai", "torch", "transformers", "accelerate")}
