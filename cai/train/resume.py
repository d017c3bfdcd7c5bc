"""Where a trainer stands, kept on disk now and then, so that a killed stage goes on from its last kept step.

All that training draws is keyed on the step, so weights, optimiser moments, the place in the schedule and what was measured are the
whole state; there is no generator to keep. Tensors go into safetensors, the rest into JSON. A state is written beside its
place, its sha256 sums last, and then renamed; a folder without sums, or with a byte that is not what it was, is not used.
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
from torch import Tensor

from cai import distributed
from cai.files import read_json, sha256
from cai.keys import digest
from cai.train.checkpoint import published
from cai.train.engine import Engine

SAVE_EVERY = 300.0
"""Seconds between two kept states."""
SAVE_SHARE = 0.05
"""Where keeping a state takes long, states are further apart, so that no more of the time goes into it."""
SUMS = "sha256.json"


class Resume:
    """The kept states of one training, in ``<out>.resume``. ``made_from`` names all that its result depends on."""

    def __init__(self, out: Path, made_from: Sequence[object], every: float = SAVE_EVERY) -> None:
        self.folder = out.with_name(out.name + ".resume")
        self.key, self.every = digest(list(made_from)), every
        self._saved, self._took = time.monotonic(), 0.0

    def load(self, engines: Mapping[str, Engine]) -> dict[str, Any]:
        """Put the newest usable state into the engines and return the rest of it; empty where there is none."""
        for state in sorted(
            self.folder.glob("step-*[0-9]"), key=lambda path: -int(path.name.removeprefix("step-"))
        ):
            if not _is_whole(state):
                print(f"warning: {state} is not as it was written and is not used", file=sys.stderr)
                continue
            kept: dict[str, Any] = read_json(state / "state.json")
            if kept["key"] != self.key:
                continue  # of another training: other data, settings or code
            for name, engine in engines.items():
                engine.restore(load_file(state / f"{name}.safetensors"), kept["engines"][name])
            return kept
        return {}

    def save(self, done: int, engines: Mapping[str, Engine], **rest: object) -> None:
        """Keep the state after ``done`` steps, if it is time; the one before it goes only when this one is there."""
        started = time.monotonic()
        pause = max(self.every, self._took / SAVE_SHARE) if self.every else 0.0
        if not _due(next(iter(engines.values())), started - self._saved >= pause):
            return
        kept = {
            name: engine.state() for name, engine in engines.items()
        }  # all processes have a part in it
        if distributed.is_main():
            self._write(done, kept, rest)
        distributed.wait()
        self._saved = time.monotonic()
        self._took = self._saved - started

    def _write(
        self,
        done: int,
        kept: Mapping[str, tuple[dict[str, Tensor], dict[str, Any]]],
        rest: Mapping[str, object],
    ) -> None:
        place = self.folder / f"step-{done}"
        states = {}
        with published(place) as partial:
            for name, (tensors, states[name]) in kept.items():
                save_file(tensors, partial / f"{name}.safetensors")
            (partial / "state.json").write_text(
                json.dumps({"key": self.key, "done": done, "engines": states, **rest})
            )
            sums = {path.name: sha256(path) for path in sorted(partial.iterdir())}
            (partial / SUMS).write_text(json.dumps(sums))
        for other in self.folder.iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)

    def clear(self) -> None:
        """Forget all states: the training is done."""
        if distributed.is_main():
            shutil.rmtree(self.folder, ignore_errors=True)


def _due(engine: Engine, here: bool) -> bool:
    """Whether the main process says that it is time; clocks differ, and all must do the same."""
    if distributed.count() == 1:
        return here
    said = torch.tensor(float(here and distributed.is_main()), device=engine.accelerator.device)
    return bool(engine.total(said))


def _is_whole(state: Path) -> bool:
    """Whether every file of a state is what was written."""
    if not (state / SUMS).is_file():
        return False
    try:
        sums: dict[str, str] = read_json(state / SUMS)
    except ValueError:
        return False
    return all(
        (state / name).is_file() and sha256(state / name) == known for name, known in sums.items()
    )
