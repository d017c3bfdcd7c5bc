"""Measure a reward model on labels that it was not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cai.train.reward.dataset import PairLabel, PreferenceGroup, pair_batch

BINS = 10
"""Bins of the calibration error."""
CERTAIN_MARGIN = 0.3
"""How far from one half a label must be to count as certain."""


class ScoredPair(NamedTuple):
    """A label with the scores of its answers.

    Attributes:
        label: The label.
        lead: By how much the first answer leads, in units of the head's output.
        extra_tokens: By how many tokens the first answer is longer.
    """

    label: PairLabel
    lead: float
    extra_tokens: float

    @property
    def longer_is_better(self) -> bool:
        """Whether the better answer is the longer one."""
        return self.extra_tokens * (self.label.p_first - 0.5) > 0

    @property
    def shorter_is_better(self) -> bool:
        """Whether the better answer is the shorter one."""
        return self.extra_tokens * (self.label.p_first - 0.5) < 0

    @property
    def is_certain(self) -> bool:
        """Whether the label is far from one half."""
        return abs(self.label.p_first - 0.5) > CERTAIN_MARGIN


def eval_metrics(
    scores_A: Tensor, groups: Sequence[PreferenceGroup], scale: float = 1.0
) -> dict[str, Any]:
    """Compare scores with labels. A metric that no label says anything about is left out.

    Accuracies are over clear labels, those that are not near ties (:mod:`cai.ties`).

    Args:
        scores_A: Scores of the answers of all groups, in order, ``[A]``.
        groups: The labels.
        scale: Output of the head per unit of score.

    Returns:
        ``eval_pairs``, the number of labels; ``eval_accuracy``, and ``longer_is_better``, that of
        always choosing the longer answer; ``score_length_correlation``; ``calibration_error``
        between the probabilities that the scores stand for and the labels; ``accuracy_*`` where the
        longer or the shorter answer is better (a model that looks at length alone is right in one
        of them), for certain and uncertain labels, and per source if there are several; and
        ``by_principle``, by the principle that speaks loudest for the label.
    """
    pairs = _scored_pairs(scores_A, groups, scale)
    clear = [pair for pair in pairs if pair.label.is_clear]
    metrics: dict[str, Any] = {"eval_pairs": len(pairs)}
    if clear:
        metrics["eval_accuracy"] = _accuracy(clear)
        metrics["longer_is_better"] = _accuracy(clear, lambda pair: pair.extra_tokens)
    lengths = [float(len(answer)) for group in groups for answer in group.prompt_group.answers]
    correlation = _correlation(scores_A, torch.tensor(lengths))
    if correlation is not None:
        metrics["score_length_correlation"] = correlation
    if pairs:
        metrics["calibration_error"] = _calibration_error(pairs)
    for name, subset in _subsets(clear).items():
        if subset:
            metrics[f"accuracy_{name}"] = _accuracy(subset)
    by_principle = _grouped(clear, lambda pair: pair.label.principle)
    if by_principle:
        metrics["by_principle"] = {
            name: {"n": len(subset), "accuracy": _accuracy(subset)}
            for name, subset in by_principle.items()
        }
    return metrics


def _scored_pairs(
    scores_A: Tensor, groups: Sequence[PreferenceGroup], scale: float
) -> list[ScoredPair]:
    """Put each label together with the scores and lengths of its answers."""
    labels = [label for group in groups for label in group.labels]
    lengths = [len(answer) for group in groups for answer in group.prompt_group.answers]
    index = pair_batch(groups, torch.device("cpu"))
    return [
        ScoredPair(
            label,
            lead=float(scores_A[first] - scores_A[second]) * scale,
            extra_tokens=float(lengths[first] - lengths[second]),
        )
        for label, first, second in zip(
            labels, index.first.tolist(), index.second.tolist(), strict=True
        )
    ]


def _subsets(clear: Sequence[ScoredPair]) -> dict[str, list[ScoredPair]]:
    """Divide clear labels in several ways; accuracy is measured in each part."""
    subsets = {
        "longer_better": [pair for pair in clear if pair.longer_is_better],
        "shorter_better": [pair for pair in clear if pair.shorter_is_better],
        "uncertain": [pair for pair in clear if not pair.is_certain],
        "certain": [pair for pair in clear if pair.is_certain],
    }
    by_source = _grouped(clear, lambda pair: pair.label.source)
    return subsets | (by_source if len(by_source) > 1 else {})


def _grouped(
    pairs: Sequence[ScoredPair], name_of: Callable[[ScoredPair], str]
) -> dict[str, list[ScoredPair]]:
    """Group pairs by a name, in alphabetical order; pairs without one are left out."""
    groups: dict[str, list[ScoredPair]] = defaultdict(list)
    for pair in pairs:
        name = name_of(pair)
        if name:
            groups[name].append(pair)
    return dict(sorted(groups.items()))


def _accuracy(
    pairs: Sequence[ScoredPair], lead: Callable[[ScoredPair], float] = lambda pair: pair.lead
) -> float:
    """Compute the fraction of labels whose better answer leads; a tie counts half."""
    return fmean(_is_right(lead(pair), pair.label.p_first) for pair in pairs)


def _is_right(lead: float, p_first: float) -> float:
    return 0.5 if lead == 0 else float((lead > 0) == (p_first > 0.5))


def _calibration_error(pairs: Sequence[ScoredPair]) -> float:
    """Compute the mean distance of predicted probabilities from labels, in bins (ECE)."""
    errors: list[list[float]] = [[] for _ in range(BINS)]
    for pair in pairs:
        p = float(torch.sigmoid(torch.tensor(pair.lead)))
        errors[min(int(p * BINS), BINS - 1)].append(p - pair.label.p_first)
    return sum(abs(sum(errors_of_bin)) for errors_of_bin in errors) / len(pairs)


def _correlation(first: Tensor, second: Tensor) -> float | None:
    """Compute the correlation of two series; None if one of them is constant."""
    if len(first) < 2 or float(first.std()) == 0 or float(second.std()) == 0:
        return None
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])
