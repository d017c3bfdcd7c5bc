"""The loop of SFT, DPO and reward modeling: planned batches, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cai import distributed
from cai.errors import RunFailed
from cai.train.batching import bucket_by_length
from cai.train.engine import Engine, StepLoss
from cai.train.resume import Resume

Log = Callable[[dict[str, Any]], None]
"""Called with the metrics of each step."""


@dataclass(frozen=True)
class MicroBatch:
    """Rows that one process reads at once.

    Attributes:
        rows: Indices of the rows.
        weights: Weight of each row: 1, or 0 for a row that another process counts. A process reads
            such a row because all of them must take part in every micro-batch.
    """

    rows: tuple[int, ...]
    weights: tuple[float, ...]

    def sorted(self, key: Callable[[int], Any]) -> MicroBatch:
        """Return the same rows in the order of a key, each with its weight."""
        pairs = sorted(zip(self.rows, self.weights, strict=True), key=lambda pair: key(pair[0]))
        return MicroBatch(tuple(row for row, _ in pairs), tuple(weight for _, weight in pairs))


LossFunction = Callable[[MicroBatch, Sequence[int]], StepLoss]
"""From a micro-batch and all rows of its batch to what the micro-batch adds to the batch's loss."""


def micro_batches(
    batch: Sequence[int], lengths: Sequence[int], max_tokens: int
) -> list[MicroBatch]:
    """Cut a batch into this process's micro-batches.

    Every process gets the same number of them, because all must step together.

    Args:
        batch: Indices of the rows of the batch.
        lengths: Tokens of each row of the data.
        max_tokens: Maximum tokens of a micro-batch on one process, padding included.
    """
    result: list[MicroBatch] = []
    batch_lengths = [lengths[row] for row in batch]
    for bucket in bucket_by_length(batch_lengths, max_tokens, distributed.count()):
        rows = [batch[i] for i in bucket]
        own = distributed.share(rows)
        if own:
            result.append(MicroBatch(tuple(own), (1.0,) * len(own)))
        else:
            result.append(MicroBatch((rows[0],), (0.0,)))
    return result


def fit(
    engine: Engine,
    plan: Sequence[Sequence[int]],
    lengths: Sequence[int],
    loss: LossFunction,
    *,
    max_tokens: int,
    resume: Resume,
    log: Log,
) -> dict[str, list[float]]:
    """Take one optimizer step per batch of a plan. Continue from a saved state if there is one.

    Args:
        engine: The model and its optimizer.
        plan: The batches, as indices of rows.
        lengths: Tokens of each row.
        loss: Computes the loss of a micro-batch.
        max_tokens: Maximum tokens of a micro-batch on one process.
        resume: Where states are saved.
        log: Called with the metrics of each step.

    Returns:
        The metrics of all steps, by name. A step's metric that is not finite is left out.

    Raises:
        RunFailed: If no step had a finite loss.
    """
    saved = resume.load({"model": engine})
    history: dict[str, list[float]] = saved.get("history", {})
    steps_done = saved.get("done", 0)
    engine.model.train()
    for step, batch in enumerate(plan[steps_done:], start=steps_done + 1):
        metrics = engine.step(
            [
                partial(loss, micro_batch, batch)
                for micro_batch in micro_batches(batch, lengths, max_tokens)
            ]
        )
        was_skipped = bool(metrics.pop("skipped", 0))
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        resume.save(step, {"model": engine}, history=history)
        # the rows of a skipped step are logged, so that the culprit can be found
        skipped_rows = {"rows": list(batch)} if was_skipped else {}
        log({"step": step, "steps": len(plan), **metrics, **skipped_rows})
    if not history.get("loss"):
        raise RunFailed("no training step had a finite gradient; lower the learning rate")
    return history


def first_and_last_decile(values: Sequence[float]) -> tuple[float, float]:
    """Compute the means of the first and of the last tenth of some values."""
    count = max(1, len(values) // 10)
    return sum(values[:count]) / count, sum(values[-count:]) / count
