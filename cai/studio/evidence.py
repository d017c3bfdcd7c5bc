"""The evidence behind a verdict, in words for people."""

from __future__ import annotations

from typing import NamedTuple

from cai.constitution.schema import Constitution, Principle
from cai.evaluate.audit import by_order
from cai.records import Judgment, Preference
from cai.studio.rows import is_flip
from cai.ties import is_near_tie

TITLES = {
    "p_A_order_1": "probability of the first letter, in this order",
    "p_A_order_2": "probability of the first letter, answers swapped",
    "share_order_1": "share of the votes for the first answer, in this order",
    "share_order_2": "share of the votes for the first answer, answers swapped",
    "sampled_votes": "votes that could be read",
    "without_verdict": "texts without a verdict",
    "problem_in_first": "probability that a critique finds a problem in the first answer",
    "problem_in_second": "probability that a critique finds a problem in the second answer",
}
"""What each number of the evidence means."""


class Verdict(NamedTuple):
    """A judgment as a page shows it.

    Attributes:
        judgment: The judgment.
        principle: Its principle; None if the run's constitution has no such principle.
        is_edited: Whether the principle has other texts by now than the judge was asked by.
        orders: The probability of the first answer in each order of the answers, if there are two.
        is_flip: Whether the judge prefers the answer in one place, whichever it is.
        is_near_tie: Whether it chooses neither answer.
        numbers: The evidence with titles.
    """

    judgment: Judgment
    principle: Principle | None
    is_edited: bool
    orders: tuple[float, float] | None
    is_flip: bool
    is_near_tie: bool
    numbers: list[tuple[str, float]]


def verdicts(preference: Preference, constitution: Constitution) -> list[Verdict]:
    """Make what a page shows of the judgments of a label.

    Args:
        preference: The label.
        constitution: The constitution of the run.
    """
    return [_verdict(judgment, constitution) for judgment in preference.judgments]


def _verdict(judgment: Judgment, constitution: Constitution) -> Verdict:
    principle = constitution.principles.get(judgment.principle)
    numbers = [(TITLES.get(n, n.replace("_", " ")), v) for n, v in judgment.evidence.items()]
    masses = enumerate(judgment.option_mass, start=1)
    places = "answer" if "problem_in_first" in judgment.evidence else "order"
    numbers += [(f"probability of any option, {places} {i}", mass) for i, mass in masses]
    return Verdict(
        judgment,
        principle,
        is_edited(principle, judgment.principle_hash),
        by_order(judgment),
        is_flip(judgment),
        judgment.p_first is not None and is_near_tie(judgment.p_first),
        numbers,
    )


def is_edited(principle: Principle | None, used: str) -> bool:
    """Whether a principle has other texts by now than a record was made by.

    Args:
        principle: The principle as it is in the run's constitution.
        used: The hash of its texts in the record.
    """
    return principle is not None and principle.rule is None and principle.hash != used
