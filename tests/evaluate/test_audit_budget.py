"""An audit asks no more than the labels did, and gives up the least useful tests first."""

from collections import Counter

import pytest

from cai.constitution import load_constitution
from cai.evaluate.audit_budget import affordable_tests
from cai.evaluate.judge_tests import adversarial_tests, judge_tests
from cai.feedback.judge import is_empty_answer


@pytest.fixture(scope="module")
def tests():
    constitution = load_constitution("harmless")
    return [*judge_tests(constitution), *adversarial_tests(constitution)]


def asked(tests):
    pairs = [test.comparison for test in tests]
    return sum(not is_empty_answer(p.first) and not is_empty_answer(p.second) for p in pairs)


def test_all_tests_are_made_if_they_are_affordable(tests):
    assert affordable_tests(tests, asked(tests)) == tests
    assert len(affordable_tests(tests, asked(tests) - 1)) < len(tests)


@pytest.mark.parametrize("judgments", [0, 1, 10, 30, 50, 100, 200])
def test_the_cost_is_bounded_and_plain_tests_come_first(tests, judgments):
    chosen = affordable_tests(tests, judgments)
    assert asked(chosen) <= judgments and chosen == [test for test in tests if test in chosen]
    count, total = (Counter(test.kind for test in some) for some in (chosen, tests))
    assert count["plain"] == min(total["plain"], judgments)
    assert count["crossed"] == 2 * count["irrelevant"]
    if count["adversarial"]:
        assert count["crossed"] == total["crossed"]


def test_which_tests_are_made_is_keyed_and_grows_with_the_budget(tests):
    few, more = affordable_tests(tests, 8, seed=1), affordable_tests(tests, 16, seed=1)
    assert affordable_tests(tests, 8, seed=1) == few and all(test in more for test in few)
    assert affordable_tests(tests, 8, seed=2) != few
    assert len({test.principle.id for test in more}) > 8  # of all principles, not the first ones
