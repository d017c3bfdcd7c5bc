"""Where a reward stops standing for what it is a reward of: proxy and gold against the distance moved (arXiv 2210.10760).

The distance is ``d``, the square root of the KL from the reference in nats. Gold follows ``d (a - b d)`` for best-of-n and
``d (a - b log d)`` for reinforcement learning; both are fitted by least squares through the start, and the better one is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

FORMS: dict[str, Callable[[float], float]] = {
    "d (a - b d)": lambda d: d * d,
    "d (a - b log d)": lambda d: d * math.log(d),
}
LEAST_LOOKS = 4
"""Looks beyond the first that a fit of two unknowns needs to say anything."""


class Fit(NamedTuple):
    """One form fitted to a curve."""

    form: str
    a: float
    b: float
    r2: float
    peak: float | None  # distance of its highest point; None where it rises for ever


def fit(points: Sequence[tuple[float, float]], form: str) -> Fit | None:
    """Fit a form to points of (distance, gain over the start); distances of 0 say nothing and are left out.

    None where the points do not determine a curve: too few of them, or all with the same gain.
    """
    rows = [(d, -FORMS[form](d), gain) for d, gain in points if d > 0]
    aa, ab, bb = (
        sum(x * y for x, y in pairs)
        for pairs in (
            [(r[0], r[0]) for r in rows],
            [(r[0], r[1]) for r in rows],
            [(r[1], r[1]) for r in rows],
        )
    )
    ay, by = (sum(r[i] * r[2] for r in rows) for i in (0, 1))
    determinant = aa * bb - ab * ab
    if abs(determinant) < 1e-12:
        return None
    a, b = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
    mean = sum(gain for *_, gain in rows) / len(rows)
    missed = sum((gain - a * d - b * f) ** 2 for d, f, gain in rows)
    spread = sum((gain - mean) ** 2 for *_, gain in rows)
    return Fit(form, a, b, 1 - missed / spread, _peak(form, a, b)) if spread else None


def _peak(form: str, a: float, b: float) -> float | None:
    if b <= 0:
        return None
    return a / (2 * b) if "log" not in form else math.exp(a / b - 1)


def detect_overoptimization(eval_points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """What the looks of a training say: the update with the best gold, whether the score went on rising after it, and the fits.

    Empty without gold, or with too few looks.
    """
    seen = [look for look in eval_points if {"eval_gold", "eval_score"} <= set(look)]
    if len(seen) <= LEAST_LOOKS:
        return {}
    best, last = max(seen, key=lambda look: look["eval_gold"]), seen[-1]
    points = [
        (math.sqrt(max(look["eval_kl"], 0.0)), look["eval_gold"] - seen[0]["eval_gold"])
        for look in seen
    ]
    fits = [found for form in FORMS if (found := fit(points, form))]
    return {
        "best_update": best["update"],
        "best_gold": best["eval_gold"],
        "last_gold": last["eval_gold"],
        "overoptimised": last["eval_gold"] < best["eval_gold"]
        and last["eval_score"] > best["eval_score"],
        "fits": [found._asdict() for found in sorted(fits, key=lambda found: -found.r2)],
    }
