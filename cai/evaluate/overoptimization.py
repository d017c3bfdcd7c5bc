"""Reward overoptimization: where the gold score falls while the reward still rises.

After Gao, Schulman and Hilton, "Scaling Laws for Reward Model Overoptimization" (arXiv 2210.10760):
with ``d`` the square root of the KL divergence from the reference policy in nats, the gold score
follows ``d (a - b d)`` for best-of-n and ``d (a - b log d)`` for reinforcement learning. Both are
fitted by least squares through the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

FORMS: dict[str, Callable[[float], float]] = {
    "d (a - b d)": lambda d: d * d,
    "d (a - b log d)": lambda d: d * math.log(d),
}
"""The second term of each form, without its coefficient ``b``."""
MIN_POINTS = 5
"""Evaluations that a fit of two unknowns needs to be worth reporting, the start included."""

MAX_EXPONENT = 100.0
"""Exponent from which a peak is so far away that the curve only rises."""
NEGLIGIBLE = 1e-9
"""Loss per gain that is no more than the rounding error of a fit."""


class Fit(NamedTuple):
    """One form fitted to a curve.

    Attributes:
        form: Name of the form in :data:`FORMS`.
        a: Coefficient of the gain.
        b: Coefficient of the loss.
        r2: Share of the variance that the fit explains.
        peak: Distance of the highest point; None if the curve only rises.
    """

    form: str
    a: float
    b: float
    r2: float
    peak: float | None


def fit(points: Sequence[tuple[float, float]], form: str) -> Fit | None:
    """Fit a form to a curve.

    Args:
        points: Pairs of distance and gain over the start; those at distance 0 are ignored.
        form: Name of the form in :data:`FORMS`.

    Returns:
        None if the points do not determine a curve: too few of them, or all with the same gain.
    """
    moved = [(distance, gain) for distance, gain in points if distance > 0]
    if not moved:
        return None
    terms = np.array([[distance, -FORMS[form](distance)] for distance, _ in moved])
    gains = np.array([gain for _, gain in moved])
    variance = float(((gains - gains.mean()) ** 2).sum())
    solution, _, rank, _ = np.linalg.lstsq(terms, gains, rcond=None)
    if rank < 2 or variance == 0:
        return None
    a, b = (float(coefficient) for coefficient in solution)
    residual = float(((gains - terms @ solution) ** 2).sum())
    return Fit(form, a, b, 1 - residual / variance, _peak(form, a, b))


def _peak(form: str, a: float, b: float) -> float | None:
    """Where the derivative of the form is 0."""
    if b <= abs(a) * NEGLIGIBLE:
        return None
    if "log" not in form:
        return a / (2 * b)
    exponent = a / b - 1
    return math.exp(exponent) if exponent < MAX_EXPONENT else None


def detect_overoptimization(eval_points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Look for overoptimization in the evaluations of a training.

    Args:
        eval_points: The evaluations in order, with ``update``, ``eval_kl``, ``eval_score`` and
            ``eval_gold``; those without a score or a gold score are ignored.

    Returns:
        The update with the best gold score, the best and the last gold score, whether the gold
        score fell while the reward rose after it, and the fits, the best first. Empty if there
        are too few evaluations.
    """
    complete = [point for point in eval_points if {"eval_gold", "eval_score"} <= set(point)]
    if len(complete) < MIN_POINTS:
        return {}
    best, last = max(complete, key=lambda point: point["eval_gold"]), complete[-1]
    start = complete[0]["eval_gold"]
    curve = [
        (math.sqrt(max(point["eval_kl"], 0.0)), point["eval_gold"] - start) for point in complete
    ]
    fits = [fitted for fitted in (fit(curve, form) for form in FORMS) if fitted]
    gold_fell = last["eval_gold"] < best["eval_gold"]
    reward_rose = last["eval_score"] > best["eval_score"]
    return {
        "best_update": best["update"],
        "best_gold": best["eval_gold"],
        "last_gold": last["eval_gold"],
        "overoptimized": gold_fell and reward_rose,
        "fits": [fitted._asdict() for fitted in sorted(fits, key=lambda fitted: -fitted.r2)],
    }
