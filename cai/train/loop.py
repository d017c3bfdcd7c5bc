"""The loop that supervised fine-tuning, the reward model and DPO share: batches by plan, cut into passes, shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from cai import processes
from cai.errors import RunFailed
from cai.train.batches import by_size
from cai.train.engine import Engine, Part
from cai.train.resume import Resume

Log = Callable[[dict[str, Any]], None]


class Pass(NamedTuple):
    """Rows that one process reads at once; each counts with its weight, 0 for one that only keeps the process company."""

    rows: tuple[int, ...]
    counts: tuple[float, ...]

    def sorted(self, key: Callable[[int], Any]) -> Pass:
        """The same pass with its rows in the order of a key of them."""
        pairs = sorted(zip(self.rows, self.counts, strict=True), key=lambda pair: key(pair[0]))
        return Pass(tuple(row for row, _ in pairs), tuple(count for _, count in pairs))


def passes(batch: Sequence[int], sizes: Sequence[int], tokens: int) -> list[Pass]:
    """A batch in parts of like size that hold at most ``tokens`` on a process, padding counted, and this process's share of each.

    Every process gets as many passes. One that is left without a row reads another's and counts it as nothing.
    """
    found = list[Pass]()
    for part in by_size([sizes[row] for row in batch], tokens, processes.count()):
        rows = [batch[i] for i in part]
        mine = processes.share(rows)
        found.append(Pass(tuple(mine), (1.0,) * len(mine)) if mine else Pass(tuple(rows[:1]), (0.0,)))
    return found


def fit(
    engine: Engine, plan: Sequence[Sequence[int]], sizes: Sequence[int], loss: Callable[[Pass, Sequence[int]], Part], *, tokens: int,
    resume: Resume, log: Log,
) -> dict[str, list[float]]:  # fmt: skip
    """Work through a plan of batches of row numbers; ``loss`` gives the part that a pass has in its batch's loss.

    Killed, it goes on from its last kept state. Returns the figures of every step, by name.
    """
    kept = resume.load({"model": engine})
    history: dict[str, list[float]] = kept.get("history", {})
    done = kept.get("done", 0)
    engine.model.train()
    for number, batch in enumerate(plan[done:], start=done + 1):
        figures = engine.step([partial(loss, part, batch) for part in passes(batch, sizes, tokens)])
        skipped = {"rows": list(batch)} if figures.pop("skipped", 0) else {}
        for name, value in figures.items():
            history.setdefault(name, []).append(value)
        resume.save(number, {"model": engine}, history=history)
        log({"step": number, "steps": len(plan), **figures, **skipped})
    if not history.get("loss"):
        raise RunFailed("no step of the training had a finite gradient; lower the rate")
    return history


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth of some figures."""
    edge = max(1, len(values) // 10)
    return sum(values[:edge]) / edge, sum(values[-edge:]) / edge
