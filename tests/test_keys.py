import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.keys import digest, draw, draw_many, seed_for, shuffled, uniform


def test_a_draw_depends_only_on_its_arguments():
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    first = [draw(weights, 0, f"record {i}", 2) for i in range(200)]
    again = [
        draw(dict(reversed(weights.items())), 0, f"record {i}", 2) for i in reversed(range(200))
    ][::-1]
    assert first == again
    assert first != [draw(weights, 1, f"record {i}", 2) for i in range(200)]


def test_draws_follow_the_weights():
    counts = Counter(draw({"a": 1.0, "b": 3.0}, i) for i in range(20_000))
    expected = {"a": 5_000, "b": 15_000}
    chi_square = sum((counts[k] - e) ** 2 / e for k, e in expected.items())
    assert chi_square < 10.83  # p = 0.001 at one degree of freedom


def test_the_law_of_a_constitutions_draws():
    """A hundred thousand draws among sixteen weighted principles; one more principle takes its share and moves no other draw."""
    weights = {f"p{i}": 1 + i % 4 for i in range(16)}
    drawn = [draw(weights, "law", i) for i in range(100_000)]
    counts, total = Counter(drawn), sum(weights.values())
    chi_square = sum(
        (counts[k] - 100_000 * w / total) ** 2 / (100_000 * w / total) for k, w in weights.items()
    )
    assert chi_square < 37.70  # p = 0.001 at fifteen degrees of freedom
    after = [draw(weights | {"new": 3}, "law", i) for i in range(20_000)]
    moved = [new for old, new in zip(drawn, after, strict=False) if new != old]
    assert set(moved) == {"new"} and abs(len(moved) / 20_000 - 3 / (total + 3)) < 0.006


def test_what_an_edit_of_one_principle_in_sixteen_touches():
    """One label in sixteen; of chains of four steps 1 - (15/16)^4, from the first touched step on."""
    weights = dict.fromkeys(map(str, range(16)), 1.0)
    labels = [draw(weights, "label", i) == "3" for i in range(8_000)]
    chains = [
        any(draw(weights, "chain", i, step) == "3" for step in range(4)) for i in range(8_000)
    ]
    assert (
        abs(sum(labels) / 8_000 - 1 / 16) < 0.009
        and abs(sum(chains) / 8_000 - (1 - (15 / 16) ** 4)) < 0.015
    )


def test_removing_an_option_moves_only_its_own_draws():
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    for i in range(500):
        before = draw(weights, i)
        after = draw({k: w for k, w in weights.items() if k != "c"}, i)
        assert before == after or before == "c"


def test_draw_many_are_different_and_begin_with_the_draw():
    weights = dict.fromkeys("abcdef", 1.0)
    for i in range(50):
        many = draw_many(weights, 3, i)
        assert len(set(many)) == 3 and many[0] == draw(weights, i)


def test_zero_weights_are_never_drawn():
    assert {draw({"a": 0.0, "b": 1.0}, i) for i in range(100)} == {"b"}
    with pytest.raises(ValueError, match="nothing to draw"):
        draw({"a": 0.0}, 1)


@given(st.lists(st.text()), st.text())
def test_parts_do_not_run_into_each_other(parts, last):
    assert seed_for(*parts, last, "x") == seed_for(*parts, last, "x")
    assert seed_for("ab", "c") != seed_for("a", "bc")
    assert 0 < uniform(*parts) < 1


def test_digest_is_canonical_and_survives_odd_text():
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest("\ud800") != digest("?")


def test_shuffled_is_a_keyed_permutation():
    items = list(range(50))
    assert sorted(shuffled(items, 1)) == items
    assert shuffled(items, 1) == shuffled(items, 1) != shuffled(items, 2)


def test_the_first_of_a_draw_is_the_one_whose_clock_rings_first():
    weights = {"x": 1.0, 'quote " and \u00e9': 2.5, "z/1": 0.3}
    for n in range(50):
        clocks = {
            key: -math.log(uniform(key, "law", n, "\u2028")) / weight
            for key, weight in weights.items()
        }
        assert draw_many(weights, 3, "law", n, "\u2028") == sorted(clocks, key=clocks.get)
    assert draw_many(weights, 3) == sorted(
        weights, key=lambda key: -math.log(uniform(key)) / weights[key]
    )
    assert uniform("a", 1) == (int(digest(["a", "1"], 13), 16) + 0.5) / 16**13
