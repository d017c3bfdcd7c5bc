"""What a reward model makes of labels that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.train.pairs import Compared, Edge, joined

BINS = 10


class Row(NamedTuple):
    """A label, and by how much its first answer leads: in score, in units of the head's output, and in tokens."""

    edge: Edge
    lead: float
    longer: float


def held_out_figures(scores_A: Tensor, elements: Sequence[Compared], scale: float = 1.0) -> dict[str, Any]:
    """Figures of the scores of all answers of some elements, in order; ``scale`` is the head's output per unit of score.

    Accuracy on clear labels; beside it that of always choosing the longer answer, how far the score goes with the length
    (correlation), and accuracy where the longer and where the shorter answer is the better one: a model that only looks at length
    is right in one of them. Accuracy per source where there are several, for surer and less sure labels, and by the principle that
    spoke loudest for the label. ``calibration_error`` is between the probabilities that the scores stand for and the labels, soft
    ones too. A figure that no label says anything about is left out.
    """
    first, second, edges = joined(elements, torch.device("cpu"))
    lengths = torch.tensor([float(len(answer)) for element in elements for answer in element.tree.answers])
    rows = [
        Row(edge, float(scores_A[i] - scores_A[j]) * scale, float(lengths[i] - lengths[j]))
        for edge, i, j in zip(edges, first, second, strict=True)
    ]
    clear = [row for row in rows if row.edge.is_clear]
    figures: dict[str, Any] = {"held_out": len(rows)}
    if clear:
        figures |= {"held_out_accuracy": _accuracy(clear), "longer_is_better": _accuracy(clear, lambda row: row.longer)}
    if (correlation := _correlation(scores_A, lengths)) is not None:
        figures["score_with_length"] = correlation
    if rows:
        figures["calibration_error"] = _calibration_error(rows)
    for name, side in (("longer_better", 1.0), ("shorter_better", -1.0)):
        part = [row for row in clear if row.longer * (row.edge.p_first - 0.5) * side > 0]
        figures |= {f"accuracy_{name}": _accuracy(part)} if part else {}
    for name, low, high in (("unsure", 0.1, 0.3), ("sure", 0.3, 0.51)):
        part = [row for row in clear if low < abs(row.edge.p_first - 0.5) <= high]
        figures |= {f"accuracy_{name}": _accuracy(part)} if part else {}
    sources, principles = (sorted({getattr(row.edge, name) for row in clear} - {""}) for name in ("source", "principle"))
    if len(sources) > 1:
        figures |= {f"accuracy_{name}": _accuracy([row for row in clear if row.edge.source == name]) for name in sources}
    if principles:
        by_principle = {name: [row for row in clear if row.edge.principle == name] for name in principles}
        figures["by_principle"] = {name: {"n": len(part), "accuracy": _accuracy(part)} for name, part in by_principle.items()}
    return figures


def _accuracy(rows: Sequence[Row], lead: Callable[[Row], float] = lambda row: row.lead) -> float:
    """Share of labels whose better answer leads; a tie is half right."""
    right = [0.5 if not lead(row) else float((lead(row) > 0) == (row.edge.p_first > 0.5)) for row in rows]
    return sum(right) / len(right)


def _calibration_error(rows: Sequence[Row]) -> float:
    """Mean distance of the predicted probability from the labels within ten bins of it (ECE)."""
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for row in rows:
        p = float(torch.sigmoid(torch.tensor(row.lead)))
        bins[min(int(p * BINS), BINS - 1)].append(p - row.edge.p_first)
    return sum(abs(sum(part)) for part in bins) / len(rows)


def _correlation(one: Tensor, other: Tensor) -> float | None:
    """None where one of the two never changes."""
    if len(one) < 2 or float(one.std()) == 0 or float(other.std()) == 0:
        return None
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])
