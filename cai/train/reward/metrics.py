"""What a reward model makes of labels that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.train.reward.dataset import PairLabel, PreferenceGroup, flatten_pairs

BINS = 10


class Row(NamedTuple):
    """A label, and by how much its first answer leads: in score, in units of the head's output, and in tokens."""

    label: PairLabel
    lead: float
    longer: float


def eval_metrics(
    scores_A: Tensor, groups: Sequence[PreferenceGroup], scale: float = 1.0
) -> dict[str, Any]:
    """Figures of the scores of all answers of some elements, in order; ``scale`` is the head's output per unit of score.

    Accuracy on clear labels; beside it that of always choosing the longer answer, how far the score goes with the length
    (correlation), and accuracy where the longer and where the shorter answer is the better one: a model that only looks at length
    is right in one of them. Accuracy per source where there are several, for surer and less sure labels, and by the principle that
    spoke loudest for the label. ``calibration_error`` is between the probabilities that the scores stand for and the labels, soft
    ones too. A figure that no label says anything about is left out.
    """
    first, second, labels = flatten_pairs(groups, torch.device("cpu"))
    lengths = torch.tensor(
        [float(len(answer)) for group in groups for answer in group.prompt_group.answers]
    )
    rows = [
        Row(label, float(scores_A[i] - scores_A[j]) * scale, float(lengths[i] - lengths[j]))
        for label, i, j in zip(labels, first, second, strict=True)
    ]
    clear = [row for row in rows if row.label.is_clear]
    metrics: dict[str, Any] = {"held_out": len(rows)}
    if clear:
        metrics |= {
            "eval_accuracy": _accuracy(clear),
            "longer_is_better": _accuracy(clear, lambda row: row.longer),
        }
    if (correlation := _correlation(scores_A, lengths)) is not None:
        metrics["score_with_length"] = correlation
    if rows:
        metrics["calibration_error"] = _calibration_error(rows)
    for name, side in (("longer_better", 1.0), ("shorter_better", -1.0)):
        part = [row for row in clear if row.longer * (row.label.p_first - 0.5) * side > 0]
        metrics |= {f"accuracy_{name}": _accuracy(part)} if part else {}
    for name, low, high in (("lower_confidence", 0.1, 0.3), ("sure", 0.3, 0.51)):
        part = [row for row in clear if low < abs(row.label.p_first - 0.5) <= high]
        metrics |= {f"accuracy_{name}": _accuracy(part)} if part else {}
    sources, principles = (
        sorted({getattr(row.label, name) for row in clear} - {""})
        for name in ("source", "principle")
    )
    if len(sources) > 1:
        metrics |= {
            f"accuracy_{name}": _accuracy([row for row in clear if row.label.source == name])
            for name in sources
        }
    if principles:
        by_principle = {
            name: [row for row in clear if row.label.principle == name] for name in principles
        }
        metrics["by_principle"] = {
            name: {"n": len(part), "accuracy": _accuracy(part)}
            for name, part in by_principle.items()
        }
    return metrics


def _accuracy(rows: Sequence[Row], lead: Callable[[Row], float] = lambda row: row.lead) -> float:
    """Share of labels whose better answer leads; a tie is half right."""
    right = [
        0.5 if not lead(row) else float((lead(row) > 0) == (row.label.p_first > 0.5))
        for row in rows
    ]
    return sum(right) / len(right)


def _calibration_error(rows: Sequence[Row]) -> float:
    """Mean distance of the predicted probability from the labels within ten bins of it (ECE)."""
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for row in rows:
        p = float(torch.sigmoid(torch.tensor(row.lead)))
        bins[min(int(p * BINS), BINS - 1)].append(p - row.label.p_first)
    return sum(abs(sum(part)) for part in bins) / len(rows)


def _correlation(one: Tensor, other: Tensor) -> float | None:
    """None where one of the two never changes."""
    if len(one) < 2 or float(one.std()) == 0 or float(other.std()) == 0:
        return None
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])
