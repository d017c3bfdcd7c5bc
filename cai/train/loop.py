"""The loop that supervised fine-tuning, the reward model and DPO share: batches by plan, cut into passes, shared among processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from cai import distributed
from cai.errors import RunFailed
from cai.train.batching import bucket_by_length
from cai.train.engine import Engine, StepLoss
from cai.train.resume import Resume

Log = Callable[[dict[str, Any]], None]


class MicroBatch(NamedTuple):
    """Rows that one process reads at once; each counts with its weight, 0 for one that only keeps the process company."""

    rows: tuple[int, ...]
    counts: tuple[float, ...]

    def sorted(self, key: Callable[[int], Any]) -> MicroBatch:
        """The same pass with its rows in the order of a key of them."""
        pairs = sorted(zip(self.rows, self.counts, strict=True), key=lambda pair: key(pair[0]))
        return MicroBatch(tuple(row for row, _ in pairs), tuple(count for _, count in pairs))


def micro_batches(batch: Sequence[int], sizes: Sequence[int], tokens: int) -> list[MicroBatch]:
    """A batch in parts of like size that hold at most ``tokens`` on a process, padding counted, and this process's share of each.

    Every process gets as many passes. One that is left without a row reads another's and counts it as nothing.
    """
    found = list[MicroBatch]()
    for part in bucket_by_length([sizes[row] for row in batch], tokens, distributed.count()):
        rows = [batch[i] for i in part]
        mine = distributed.share(rows)
        found.append(
            MicroBatch(tuple(mine), (1.0,) * len(mine))
            if mine
            else MicroBatch(tuple(rows[:1]), (0.0,))
        )
    return found


def fit(
    engine: Engine,
    plan: Sequence[Sequence[int]],
    sizes: Sequence[int],
    loss: Callable[[MicroBatch, Sequence[int]], StepLoss],
    *,
    tokens: int,
    resume: Resume,
    log: Log,
) -> dict[str, list[float]]:
    """Work through a plan of batches of row numbers; ``loss`` gives the part that a pass has in its batch's loss.

    Killed, it goes on from its last kept state. Returns the figures of every step, by name.
    """
    kept = resume.load({"model": engine})
    history: dict[str, list[float]] = kept.get("history", {})
    done = kept.get("done", 0)
    engine.model.train()
    for number, batch in enumerate(plan[done:], start=done + 1):
        metrics = engine.step(
            [partial(loss, part, batch) for part in micro_batches(batch, sizes, tokens)]
        )
        skipped = {"rows": list(batch)} if metrics.pop("skipped", 0) else {}
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        resume.save(number, {"model": engine}, history=history)
        log({"step": number, "steps": len(plan), **metrics, **skipped})
    if not history.get("loss"):
        raise RunFailed("no step of the training had a finite gradient; lower the rate")
    return history


def first_and_last_decile(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth of some figures."""
    label = max(1, len(values) // 10)
    return sum(values[:label]) / label, sum(values[-label:]) / label
