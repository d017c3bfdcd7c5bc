"""Clustered errors and the clustered bootstrap, against closed forms and slow loops."""

import math
import statistics

import numpy as np
import pytest

from cai.evaluate.bootstrap import bootstrap, percentiles, resamples, tail
from cai.evaluate.intervals import (
    cluster_totals,
    clustered_difference,
    clustered_estimate,
    clustered_mean,
    clustered_share,
    clustered_variance,
    conversation,
    degrees_of_freedom,
    design_effect,
    paired_difference,
)
from cai.evaluate.statistics import mean, t95, wilson
from cai.records import Message, Prompt

VALUES = [1.0, 2.0, 4.0, 3.0, 7.0, 5.0]
CLUSTERS = ["a", "a", "b", "b", "b", "c"]


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (10, 2.2281), (100, 1.9840), (1000, 1.9623)],
)
def test_quantiles_of_students_t_equal_the_tables(degrees, quantile):
    assert t95(degrees) == pytest.approx(quantile, abs=5e-5)


def test_quantiles_of_students_t_are_continuous():
    assert t95(2) > t95(2.5) > t95(3) and t95(2.5) == pytest.approx(3.558, rel=0.03)
    assert t95(100) > t95(101) > t95(102)
    assert t95(100) - t95(101) == pytest.approx(t95(99) - t95(100), rel=0.1)


def test_single_observations_have_the_textbook_interval():
    estimate = clustered_mean(VALUES, list("abcdef"))
    half = t95(5) * statistics.stdev(VALUES) / math.sqrt(6)
    assert estimate.value == pytest.approx(mean(VALUES))
    assert (estimate.low, estimate.high) == pytest.approx(
        (mean(VALUES) - half, mean(VALUES) + half)
    )
    assert (estimate.n, estimate.clusters) == (6, 6)


def test_the_clustered_interval_equals_a_slow_loop():
    center = mean(VALUES)
    variance = 0.0
    for name in set(CLUSTERS):
        residuals = [v - center for v, c in zip(VALUES, CLUSTERS, strict=True) if c == name]
        variance += (sum(residuals) / 6) ** 2 / (1 - len(residuals) / 6)
    half = t95(degrees_of_freedom(CLUSTERS)) * math.sqrt(variance)
    assert clustered_mean(VALUES, CLUSTERS).high == pytest.approx(center + half)


@pytest.mark.parametrize("sizes", [(2, 3, 1), (1, 1, 8), (5, 1), (4, 4, 4), (1,) * 7])
def test_degrees_of_freedom_are_those_of_the_variance_as_a_quadratic_form(sizes):
    """By the moments of a chi-squared distribution (Satterthwaite), with matrices."""
    n, names = sum(sizes), [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    of_cluster = np.array([[float(name == str(i)) for name in names] for i in range(len(sizes))])
    totals = of_cluster @ (np.eye(n) - 1 / n) / np.sqrt(1 - np.array(sizes) / n)[:, None]
    form = totals.T @ totals / n**2
    expected = np.trace(form) ** 2 / np.trace(form @ form)
    assert np.trace(form) == pytest.approx(1 / n)  # of independent observations it has no bias
    assert degrees_of_freedom(names) == pytest.approx(expected)
    if len(set(sizes)) == 1:
        assert expected == pytest.approx(len(sizes) - 1)


def test_a_single_cluster_has_no_degrees_of_freedom():
    assert degrees_of_freedom(["one"] * 3) == 0


def test_repeating_every_observation_of_a_cluster_tells_nothing_new():
    once = clustered_mean(VALUES, list("abcdef"))
    twice = clustered_mean(VALUES * 2, list("abcdef") * 2)
    assert twice[:3] == pytest.approx(once[:3])


def test_one_cluster_says_nothing_about_others():
    assert clustered_mean([1.0, 2.0], ["a", "a"])[:3] == (1.5, None, None)


def test_no_mean_of_nothing():
    with pytest.raises(ValueError, match="is empty; there is nothing to estimate from"):
        clustered_mean([], [])


def test_a_difference_is_paired():
    first = {"a": [1.0, 3.0], "b": [5.0], "c": [9.0]}
    second = {name: [mean(values) - 1] for name, values in first.items()}
    assert paired_difference(first, second) == (1, 1, 1, 7, 3)
    in_two = paired_difference(first, second, {"a": "one", "b": "one"})
    assert in_two == (1, 1, 1, 7, 2)  # two prompts of one conversation
    second["a"] = [0.0]
    del first["b"]
    wider = paired_difference(first, second)
    assert wider.value == pytest.approx((2 + 1) / 2)
    assert wider.high == pytest.approx(1.5 + t95(1) * statistics.stdev([2, 1]) / math.sqrt(2))
    assert paired_difference({"a": [1.0]}, {"b": [1.0]}) is None
    assert paired_difference({"a": [1.0]}, {"a": [0.5]})[:3] == (0.5, None, None)


def test_a_difference_of_shares_has_the_interval_of_bonett_and_price():
    only_first, only_second, n = 5, 2, 30
    gains = [1.0] * only_first + [-1.0] * only_second + [0.0] * (n - only_first - only_second)
    p12, p21 = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = t95(n - 1) * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    found = clustered_difference(gains, list(map(str, range(n))))
    assert found.value == pytest.approx(3 / 30)
    assert (found.low, found.high) == pytest.approx((p12 - p21 - half, p12 - p21 + half))


def test_a_difference_that_nothing_showed_is_not_known_to_be_zero():
    same = {str(i): [0.0] for i in range(20)}
    found = paired_difference(same, same)
    assert found.value == 0
    assert found.low == pytest.approx(-found.high)
    assert 0.1 < found.high < 0.2
    all_better = paired_difference({name: [1.0] for name in same}, same)
    assert (all_better.value, all_better.high) == (1, 1)
    assert 0.5 < all_better.low < 0.9


def test_repeated_pairs_make_no_difference_more_certain():
    gains, names = [1.0, 0.0, 0.0, -1.0, 1.0, 0.0], list("abcdef")
    once, thrice = clustered_difference(gains, names), clustered_difference(gains * 3, names * 3)
    assert thrice[:3] == pytest.approx(once[:3])


def test_a_mean_of_zeros_and_ones_is_a_share():
    clusters = {"a": [1.0, 1.0], "b": [0.0], "c": [0.5]}
    values, names = [1.0, 1.0, 0.0, 0.5], ["a", "a", "b", "c"]
    assert clustered_estimate(clusters) == clustered_share(values, names)
    assert clustered_estimate({**clusters, "d": [2.0]}) == clustered_mean(
        [*values, 2.0], [*names, "d"]
    )


def test_covariances_are_between_columns():
    rows = [[a, 2 * a] for a in (-1.0, 0.0, 1.0)]
    assert clustered_variance(rows, ["a", "b", "c"]).tolist() == [[3.0, 6.0], [6.0, 12.0]]
    assert cluster_totals(rows, ["b", "a", "a"]).tolist() == [[1.0, 2.0], [-1.0, -2.0]]


def test_the_bootstrap_draws_whole_clusters():
    sizes = {"a": 2, "b": 3, "c": 1}
    seen = set()

    def statistic(items):
        counts = {name: sum(c == name for c in items) for name in sizes}
        assert all(counts[name] % size == 0 for name, size in sizes.items())
        assert sum(counts[name] // size for name, size in sizes.items()) == 3
        seen.add(tuple(counts.values()))
        return float(len(items))

    bootstrap(CLUSTERS, CLUSTERS, statistic, seed=1, draws=200)
    assert len(seen) == 10  # all ways to draw 3 of 3 with repetition


def test_the_bootstrap_equals_a_slow_loop():
    values = []
    for drawn in resamples(3, seed=4, draws=99):
        chosen = ["abc"[i] for i in drawn]
        items = [v for d in chosen for v, c in zip(VALUES, CLUSTERS, strict=True) if c == d]
        values.append(mean(items))
    estimate = bootstrap(VALUES, CLUSTERS, mean, seed=4, draws=99)
    assert (estimate.low, estimate.high) == percentiles(values, 3)
    assert estimate.value == mean(VALUES)
    assert bootstrap(VALUES, CLUSTERS, lambda items: None) is None


def test_percentiles_are_those_of_the_normal_distribution_for_many_clusters():
    assert tail(100_000) == pytest.approx(0.025, abs=1e-5)
    assert tail(10) < tail(100) < 0.025
    assert percentiles(range(999), 100_000) == (23.0, 975.0)
    assert percentiles([2.0, 1.0], 1) == (1.0, 2.0)


def test_prompts_with_the_same_first_user_turn_are_one_conversation():
    asked = Message(role="user", content="Is it flat?")
    answered = (Message(role="assistant", content="No."), Message(role="user", content="Sure?"))
    first, later = Prompt.of("Is it flat?"), Prompt.of((asked, *answered))
    system = Prompt.of((Message(role="system", content="Be brief."), asked))
    assert conversation(first) == conversation(later) == conversation(system)
    assert conversation(Prompt.of("Is it round?")) != conversation(first)


@pytest.mark.parametrize(("wins", "n"), [(0, 8), (1, 1), (3, 10), (10, 10), (60, 100)])
def test_independent_wins_and_losses_have_wilsons_interval(wins, n):
    rate = clustered_share([1.0] * wins + [0.0] * (n - wins), [str(i) for i in range(n)])
    expected = wilson(wins, n)
    assert rate[:4] == pytest.approx(expected)
    assert rate.clusters == n


def test_conversations_that_always_end_alike_count_once():
    wins, clusters = [1.0, 0.0, 1.0, 1.0], ["a", "b", "c", "d"]
    once = clustered_share(wins * 3, [name + copy for copy in "123" for name in clusters])
    repeated = clustered_share(wins * 3, clusters * 3)
    assert repeated.value == once.value
    assert repeated.high - repeated.low > once.high - once.low
    unbiased = (4 / 3) / (12 / 11)  # for the numbers of clusters and of comparisons
    assert design_effect([1.0] * 12, clusters * 3) == pytest.approx(3 * unbiased)


def test_the_effective_number_follows_the_clustered_variance():
    wins = [float(i % 4 > 0) for i in range(4_000)]
    clusters = [str(i // 4) for i in range(4_000)]  # each has three wins and a loss
    assert design_effect(wins, clusters) < 0.01
    alike = [float(i // 4 % 4 > 0) for i in range(4_000)]
    assert design_effect(alike, clusters) == pytest.approx(4, rel=0.01)


def test_ties_narrow_the_interval_and_never_close_it():
    names = [str(i) for i in range(50)]
    all_ties, none = clustered_share([0.5] * 50, names), clustered_share([1.0, 0.0] * 25, names)
    assert all_ties.value == none.value == 0.5
    assert 0 < all_ties.high - all_ties.low < (none.high - none.low) / 4


def test_one_conversation_says_nothing_about_others():
    assert clustered_share([1.0, 1.0], ["a", "a"])[:3] == (1.0, 0.0, 1.0)


def test_no_share_of_nothing():
    with pytest.raises(ValueError, match="is empty; there is nothing to estimate from"):
        clustered_share([], [])
