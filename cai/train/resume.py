"""Save the state of a training now and then, so that a killed stage continues from there.

Every random draw of a training is keyed on the step. So the weights, the moments of the optimizer,
the number of steps done and the metrics so far are the whole state; there is no random generator to
save. Tensors are written as safetensors and everything else as JSON. A state is written to a
neighboring folder, its SHA-256 sums last, and then renamed. A folder without sums, or with a file
that does not match them, is not used.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from cai import distributed
from cai.config import Training
from cai.files import read_json, sha256
from cai.keys import digest
from cai.train.checkpoint import published
from cai.train.engine import Engine, EngineState

MAX_SAVE_SHARE = 0.05
"""Largest fraction of the time spent on saving; if saving is slow, states are further apart."""
SUMS = "sha256.json"
STATE = "state.json"


class Resume:
    """The saved states of one training, in ``<out>.resume``.

    Args:
        out: Folder that the training will write its result to.
        made_from: All that the result depends on. A state saved under other inputs is not used.
        training: How often states are saved, and how many are kept.
    """

    def __init__(self, out: Path, made_from: Sequence[object], training: Training) -> None:
        self.folder = out.with_name(out.name + ".resume")
        self.key = digest(list(made_from))
        self.every = training.save_seconds
        self.keep = training.save_total_limit
        self._last_saved = time.monotonic()
        self._seconds_to_save = 0.0

    def load(self, engines: Mapping[str, Engine]) -> dict[str, Any]:
        """Restore the newest usable state. Collective.

        Args:
            engines: The engines to restore, by the names they were saved under.

        Returns:
            What was saved with them, and the number of steps ``done``; empty if there is no state.
        """
        for folder in sorted(self.folder.glob("step-*[0-9]"), key=_step_of, reverse=True):
            if not _is_intact(folder):
                print(f"warning: {folder} is damaged and is not used", file=sys.stderr)
                continue
            state: dict[str, Any] = read_json(folder / STATE)
            if state["key"] != self.key:
                # it stays where it is until a state of this training is written
                print(
                    f"warning: {folder} is of a training with other data, settings or models and "
                    "is not used; this one starts at the beginning",
                    file=sys.stderr,
                )
                continue
            for name, engine in engines.items():
                tensors = load_file(folder / f"{name}.safetensors")
                engine.restore(tensors, state["engines"][name])
            return state
        return {}

    def save(self, done: int, engines: Mapping[str, Engine], **rest: object) -> None:
        """Save the state after ``done`` steps if it is time. Collective.

        Args:
            done: Number of steps done.
            engines: The engines to save, by name.
            rest: What else :meth:`load` should return; JSON values.
        """
        started = time.monotonic()
        pause = max(self.every, self._seconds_to_save / MAX_SAVE_SHARE) if self.every else 0.0
        is_due = started - self._last_saved >= pause
        if not _main_decides(next(iter(engines.values())), decision=is_due):
            return
        states = {name: engine.state() for name, engine in engines.items()}
        if distributed.is_main():
            self._write(done, states, rest)
        distributed.wait()
        self._last_saved = time.monotonic()
        self._seconds_to_save = self._last_saved - started

    def _write(
        self, done: int, states: Mapping[str, EngineState], rest: Mapping[str, object]
    ) -> None:
        """Publish a state, then remove all but the last few."""
        folder = self.folder / f"step-{done}"
        values = {name: state.values for name, state in states.items()}
        with published(folder) as partial:
            for name, state in states.items():
                save_file(state.tensors, partial / f"{name}.safetensors")
            content = {"key": self.key, "done": done, "engines": values, **rest}
            (partial / STATE).write_text(json.dumps(content), encoding="utf-8")
            sums = {path.name: sha256(path) for path in sorted(partial.iterdir())}
            (partial / SUMS).write_text(json.dumps(sums), encoding="utf-8")
        own = [state for state in self.folder.glob("step-*[0-9]") if self._is_own(state)]
        kept = sorted(own, key=_step_of)[-self.keep :]
        for other in self.folder.iterdir():
            if other not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _is_own(self, folder: Path) -> bool:
        """Tell whether a state is of this training."""
        try:
            return bool(read_json(folder / STATE)["key"] == self.key)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def clear(self) -> None:
        """Remove all states: the training is complete."""
        if distributed.is_main():
            shutil.rmtree(self.folder, ignore_errors=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _main_decides(engine: Engine, *, decision: bool) -> bool:
    """Let all processes follow the main one's decision; their clocks differ. Collective."""
    if distributed.count() == 1:
        return decision
    vote = float(decision and distributed.is_main())
    return bool(engine.total(torch.tensor(vote, device=engine.accelerator.device)))


def _is_intact(folder: Path) -> bool:
    """Tell whether every file of a state is as it was written."""
    try:
        sums: dict[str, str] = read_json(folder / SUMS)
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(sums, dict) or STATE not in sums:
        return False
    return all(
        (folder / name).is_file() and sha256(folder / name) == known for name, known in sums.items()
    )
