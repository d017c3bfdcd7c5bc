"""``judge``: comparisons in, AI preferences out (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cai.backends.protocol import Ask
from cai.constitution.schema import Constitution
from cai.feedback.readings import Method
from cai.keys import digest, draw_many
from cai.records import Comparison, Preference, Reading

Combine = Literal["mean", "sum", "vote"]


def judge(
    comparisons: Sequence[Comparison], law: Constitution, ask: Ask, method: Method, *, principles: int = 1,
    combine: Combine = "mean", seed: int = 0,
) -> list[Preference]:  # fmt: skip
    """Label each comparison by ``principles`` different principles drawn by weight (0: by all of them, in turn).

    One principle per label is the paper's way. Several are joined by ``combine``: the ``mean`` of the probabilities; the
    ``sum`` of what each says against an answer, at most certainty; or a ``vote``. A comparison that no principle could
    score has no label, and the status ``unscored``.
    """
    weights = law.used_for("judge")
    drawn = [
        [law.principles[name] for name in draw_many(weights, principles or len(weights), seed, "judge", comparison.id)]
        for comparison in comparisons
    ]
    calls = [method.calls(comparison, principle) for comparison, chosen in zip(comparisons, drawn, strict=True) for principle in chosen]
    answers = iter(ask([call for group in calls for call in group]))
    groups = iter([[next(answers) for _ in group] for group in calls])
    preferences = []
    for comparison, chosen in zip(comparisons, drawn, strict=True):
        readings = tuple(method.read(principle, next(groups)) for principle in chosen)
        # a drawn principle was weighted by the draw; all principles in turn are weighted here
        importance = [1.0 if principles else weights[r.principle] * len(weights) / sum(weights.values()) for r in readings]
        p_first = combined(readings, importance, combine)
        preferences.append(
            Preference(
                id=digest([comparison.id, [r.model_dump() for r in readings]]),
                comparison=comparison,
                p_first=p_first,
                status="ok" if p_first is not None else "unscored",
                source="ai",
                readings=readings,
                judge=ask.fingerprint,
            )
        )
    return preferences


def combined(readings: Sequence[Reading], importance: Sequence[float], combine: Combine) -> float | None:
    """One probability from the readings that have one, or None if none has."""
    found = [(r.p_first, weight) for r, weight in zip(readings, importance, strict=True) if r.p_first is not None]
    if not found:
        return None
    total = sum(weight for _, weight in found)
    if combine == "mean":
        return sum(p * weight for p, weight in found) / total
    if combine == "sum":
        leaning = sum((2 * p - 1) * weight for p, weight in found)
        return (1 + min(max(leaning, -1.0), 1.0)) / 2
    votes = [(weight, 0.5 if abs(p - 0.5) < 1e-6 else float(p > 0.5)) for p, weight in found]
    return sum(weight * vote for weight, vote in votes) / total
