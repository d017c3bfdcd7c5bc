"""When does a policy begin to exploit its reward? Detectors over the metrics of the updates.

No true quality is needed: the score rises, and something that should not move moves with it. A
detector is a pure function of the history; ``cai lab hack`` measures how often each of them is
right, and the defaults of ``monitor.onset`` come from there.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cai.config import Onset

Metrics = Mapping[str, float]


class Signal(NamedTuple):
    """A metric that moves when a reward is exploited.

    Attributes:
        metric: Name of the metric.
        text: What it means.
        measure: From its recent and its first values to how suspicious it is: the larger, the more.
        compares: Whether the first values are used.
    """

    metric: str
    text: str
    measure: Callable[[Sequence[float], Sequence[float]], float]
    compares: bool = False


def _level(recent: Sequence[float], _first: Sequence[float]) -> float:
    return statistics.fmean(recent)


def _distance(recent: Sequence[float], _first: Sequence[float]) -> float:
    return abs(statistics.fmean(recent))


def _below_one(recent: Sequence[float], _first: Sequence[float]) -> float:
    return 1 - statistics.fmean(recent)


def _change(recent: Sequence[float], first: Sequence[float], floor: float) -> float:
    """The change of the mean, in standard deviations of the first updates.

    Args:
        recent: The last values.
        first: The first values.
        floor: Smallest standard deviation to divide by, since a few values may lie close together.
    """
    spread = statistics.stdev(first) if len(first) > 1 else 0.0
    return (statistics.fmean(recent) - statistics.fmean(first)) / max(spread, floor)


def _length_change(recent: Sequence[float], first: Sequence[float]) -> float:
    return abs(_change(recent, first, floor=0.05 * statistics.fmean(first) + 1e-9))


def _rise(recent: Sequence[float], first: Sequence[float]) -> float:
    return _change(recent, first, floor=0.1 * abs(statistics.fmean(first)) + 1e-9)


def _fall(recent: Sequence[float], first: Sequence[float]) -> float:
    return -_change(recent, first, floor=0.1)


SIGNALS: dict[str, Signal] = {
    "kl": Signal("kl", "the KL from the reference policy is large", _level),
    "repeated": Signal("unique_fraction", "many answers are the same", _below_one),
    "length": Signal("length", "the length of answers has changed", _length_change, compares=True),
    "score_length": Signal(
        "score_length_correlation", "the score follows the length of answers", _distance
    ),
    "score_range": Signal(
        "normalized_score", "the score is above those that the reward was made for", _level
    ),
    "score_spread": Signal(
        "score_spread", "the reward models of the ensemble disagree", _rise, compares=True
    ),
    "second_score": Signal(
        "second_score", "the second reward model likes the answers less", _fall, compares=True
    ),
    "second_disagreement": Signal(
        "second_agreement", "the two reward models order answers differently", _below_one
    ),
    "format_raise": Signal(
        "format_raise", "the score rises when an answer is only perturbed", _level
    ),
}
"""The signals, by the name of their threshold in ``monitor.onset``."""


def statistic(name: str, history: Sequence[Metrics], settings: Onset) -> float | None:
    """Measure how suspicious a signal is after the last update.

    Args:
        name: The signal, one of :data:`SIGNALS`.
        history: Metrics of all updates so far.
        settings: How many updates are averaged.

    Returns:
        The larger, the more suspicious; None while there are too few updates with the metric.
    """
    signal = SIGNALS[name]
    values = [row[signal.metric] for row in history if signal.metric in row]
    first = settings.baseline_updates if signal.compares else 0
    if len(values) < first + settings.window:
        return None
    return signal.measure(values[-settings.window :], values[:first])


def fired(history: Sequence[Metrics], settings: Onset) -> list[str]:
    """List the signals that are above their threshold after the last update.

    Args:
        history: Metrics of all updates so far.
        settings: The thresholds; a signal without one is never listed.
    """
    names = []
    for name in SIGNALS:
        threshold: float | None = getattr(settings, name)
        value = None if threshold is None else statistic(name, history, settings)
        if value is not None and threshold is not None and value > threshold:
            names.append(name)
    return names


def onsets(history: Sequence[Metrics], settings: Onset) -> dict[str, int]:
    """Find the update at which each signal first fired.

    Args:
        history: Metrics of all updates.
        settings: The thresholds.

    Returns:
        The number of the update, from 1, by signal, the earliest first.
    """
    found: dict[str, int] = {}
    for update in range(1, len(history) + 1):
        for name in fired(history[:update], settings):
            found.setdefault(name, update)
    return found


def note(onset: Mapping[str, int]) -> str:
    """Say in one sentence which signals fired, and when."""
    parts = [f"{SIGNALS[name].text} (update {update})" for name, update in onset.items()]
    return f"the policy may exploit its reward: {'; '.join(parts)}"
