"""What the order of two answers does to a judge that was asked in both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cai.evaluate.audit import by_order
from cai.evaluate.intervals import conversation
from cai.evaluate.kappa import rate, same, verdict
from cai.records import Preference


def order_bias(labels: Sequence[Preference]) -> dict[str, Any]:
    """Measure how much the order decides.

    Args:
        labels: Labels of a judge. Judgments in one order only are left out.

    Returns:
        Rates of judgments: ``consistency``, the same answer wins in both orders; ``same_place``,
        the answer at the same place wins in both orders; and of single verdicts ``first_place``,
        the answer that is shown first wins. A verdict of exactly one half is neither.
    """
    consistent, same_place, first_place = list[float](), list[float](), list[float]()
    clusters = []
    for label in labels:
        for orders in filter(None, map(by_order, label.judgments)):
            first, second = orders
            decided = 0.5 not in orders
            consistent.append(float(decided and same(first, second) == 1))
            same_place.append(float(decided and same(first, second) == 0))
            # in the other order, the first answer is at the second place
            first_place.append((verdict(first) + 1 - verdict(second)) / 2)
            clusters.append(conversation(label.comparison.prompt))
    return {
        "consistency": rate(consistent, clusters),
        "same_place": rate(same_place, clusters),
        "first_place": rate(first_place, clusters),
    }
