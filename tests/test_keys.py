"""Content ids and keyed draws: equal arguments give equal draws, and weights are respected."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai.keys import digest, draw, draw_many, seed_for, shuffled, uniform


def chi_square(counts, weights):
    drawn, total = sum(counts.values()), sum(weights.values())
    expected = {key: drawn * weight / total for key, weight in weights.items()}
    return sum((counts[key] - e) ** 2 / e for key, e in expected.items())


def test_draw_depends_on_its_arguments_only():
    weights = {"a": 1.0, "b": 2.0, "c": 3.0}
    reordered = dict(reversed(weights.items()))
    first = [draw(weights, 0, f"record {i}", 2) for i in range(200)]
    second = [draw(reordered, 0, f"record {i}", 2) for i in reversed(range(200))]
    assert first == second[::-1]
    assert first != [draw(weights, 1, f"record {i}", 2) for i in range(200)]


def test_draws_follow_the_weights():
    weights = {"a": 1.0, "b": 3.0}
    counts = Counter(draw(weights, i) for i in range(20_000))
    assert chi_square(counts, weights) < 10.83  # p = 0.001 at one degree of freedom


def test_draws_of_principles_follow_the_weights():
    weights = {f"p{i}": 1.0 + i % 4 for i in range(16)}
    drawn = [draw(weights, "law", i) for i in range(20_000)]
    assert chi_square(Counter(drawn), weights) < 37.70  # p = 0.001 at fifteen degrees of freedom
    # a new principle takes its share and moves no other draw
    after = [draw(weights | {"new": 3.0}, "law", i) for i in range(20_000)]
    moved = [new for old, new in zip(drawn, after, strict=True) if new != old]
    assert set(moved) == {"new"}
    assert abs(len(moved) / 20_000 - 3 / (sum(weights.values()) + 3)) < 0.006


def test_edit_of_one_principle_in_sixteen():
    """It affects one label in sixteen, and 1 - (15/16)^4 of the chains of four steps."""
    weights = dict.fromkeys(map(str, range(16)), 1.0)
    labels = [draw(weights, "label", i) == "3" for i in range(8_000)]
    chains = [
        any(draw(weights, "chain", i, step) == "3" for step in range(4)) for i in range(8_000)
    ]
    assert abs(sum(labels) / 8_000 - 1 / 16) < 0.009
    assert abs(sum(chains) / 8_000 - (1 - (15 / 16) ** 4)) < 0.015


def test_removing_an_option_moves_only_its_own_draws():
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    without_c = {"a": 1.0, "b": 1.0}
    for i in range(500):
        assert draw(weights, i) in (draw(without_c, i), "c")


def test_draw_many_are_different_and_begin_with_the_draw():
    weights = dict.fromkeys("abcdef", 1.0)
    for i in range(50):
        many = draw_many(weights, 3, i)
        assert len(set(many)) == 3
        assert many[0] == draw(weights, i)


def test_zero_weights_are_never_drawn():
    assert {draw({"a": 0.0, "b": 1.0}, i) for i in range(100)} == {"b"}
    with pytest.raises(ValueError, match="nothing to draw"):
        draw({"a": 0.0}, 1)


@given(st.lists(st.text()), st.text())
def test_parts_are_kept_apart(parts, last):
    assert seed_for(*parts, last, "x") == seed_for(*parts, last, "x")
    assert seed_for("ab", "c") != seed_for("a", "bc")
    assert 0 < uniform(*parts) < 1


def test_digest_is_canonical_and_accepts_any_text():
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest("\ud800") != digest("?")


def test_shuffled_is_a_keyed_permutation():
    items = list(range(50))
    assert sorted(shuffled(items, 1)) == items
    assert shuffled(items, 1) == shuffled(items, 1) != shuffled(items, 2)


def test_draws_are_ordered_by_arrival_time():
    weights = {"x": 1.0, 'quote " and \u00e9': 2.5, "z/1": 0.3}
    for parts in (*(("law", n, "\u2028") for n in range(50)), ()):
        arrivals = {key: -math.log(uniform(key, *parts)) / w for key, w in weights.items()}
        assert draw_many(weights, 3, *parts) == sorted(arrivals, key=arrivals.get)
    assert uniform("a", 1) == (int(digest(["a", "1"], 13), 16) + 0.5) / 16**13


def test_keyed_values_never_change():
    """Runs are resumed by these values, and published results depend on them."""
    assert digest(["a", 1, None, 0.5]) == "85ea07df567cd2d9"
    assert seed_for(0, "sample", "id", 3) == 302108283
    assert draw_many({"a": 1.0, "b": 2.0, "c": 3.0}, 3, "seed", 7) == ["a", "c", "b"]
    assert shuffled("abcdef", "seed", 7) == list("edafbc")
