"""How many tests of a judge an audit may make: no more than there were judgments to check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from cai.evaluate.judge_tests import JudgeTest
from cai.feedback.judge import is_empty_answer
from cai.keys import shuffled

CROSSED = 3
"""Tests that two crossed examples make: two crossed ones and an irrelevant one."""


def affordable_tests(tests: Sequence[JudgeTest], judgments: int, seed: int = 0) -> list[JudgeTest]:
    """Choose the tests that together ask no more than the labels did.

    Plain tests come first, in a keyed order; then crossed ones, each with its partner and its
    irrelevant test; then all attacks on one example after the other.

    Args:
        tests: The tests, as :mod:`cai.evaluate.judge_tests` makes them.
        judgments: Number of judgments behind the labels.
        seed: Seed of the order.

    Returns:
        The tests in their own order; all of them if they are affordable.
    """
    cost, chosen = 0, set[int]()
    for unit in _units(tests, seed):
        cost += sum(needs_request(tests[i]) for i in unit)
        if cost > judgments:
            break
        chosen.update(unit)
    return [test for i, test in enumerate(tests) if i in chosen]


def _units(tests: Sequence[JudgeTest], seed: int) -> Iterator[list[int]]:
    """The places of tests that are made together or not at all, the most useful first."""
    of_kind = {
        kind: [i for i, test in enumerate(tests) if test.kind in kind]
        for kind in (("plain",), ("crossed", "irrelevant"), ("adversarial",))
    }
    plain, crossed, adversarial = of_kind.values()
    for i in shuffled(plain, seed, "audit"):
        yield [i]
    for first in range(0, len(crossed), CROSSED):
        yield crossed[first : first + CROSSED]
    for _, places in groupby(adversarial, key=lambda i: tests[i].example):
        yield list(places)


def needs_request(test: JudgeTest) -> bool:
    """Whether a test asks the judge; an empty answer loses without a request."""
    return not any(map(is_empty_answer, (test.comparison.first, test.comparison.second)))
