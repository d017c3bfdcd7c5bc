"""Answers in the order that verdicts on their pairs speak for."""

import math
import random
from itertools import permutations
from pathlib import Path

import pytest

import cai
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.constitution.schema import Constitution, Principle
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.feedback.rank import ranking, rankings, strengths
from cai.records import Comparison, Preference, Prompt

PROMPT = Prompt.of("How do I mend the bike?")
CONSTITUTION = Constitution(
    name="t",
    title="t",
    weights={"revise": {"x": 1.0}, "judge": {"x": 1.0}},
    principles={
        "x": Principle(
            id="x",
            title="x",
            critique="Find x.",
            revise="Take it out.",
            compare="Which has less x?",
        )
    },
)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def label(first, second, p_first):
    return Preference(
        id=first + second,
        comparison=Comparison.of(PROMPT, first, second),
        p_first=p_first,
        source="ai",
    )


def test_two_answers_differ_by_the_log_odds():
    one, other = strengths({(0, 1): 0.8, (1, 0): 0.2}, 2, prior=1e-9)
    assert one - other == pytest.approx(math.log(0.8 / 0.2), abs=1e-5)


def test_the_strengths_are_the_most_likely_ones():
    rng = random.Random(0)
    wins = {pair: rng.random() * 3 for pair in permutations(range(5), 2)}
    fitted = strengths(wins, 5, prior=0.3)

    def likelihood(s):
        played = sum(won * math.log(sigmoid(s[i] - s[j])) for (i, j), won in wins.items())
        return played + sum(0.15 * (math.log(sigmoid(x)) + math.log(sigmoid(-x))) for x in s)

    best = likelihood(fitted)
    for i in range(5):
        for step in (-1e-3, 1e-3):
            moved = [s + step * (i == j) for j, s in enumerate(fitted)]
            assert likelihood(moved) < best


def test_latent_strengths_are_found_again_from_soft_labels():
    truth = [1.5, 0.7, 0.0, -0.4, -1.8]
    wins = {(i, j): sigmoid(truth[i] - truth[j]) for i, j in permutations(range(5), 2)}
    fitted = strengths(wins, 5, prior=1e-6)
    assert [s - fitted[2] for s in fitted] == pytest.approx(truth, abs=1e-3)


def test_rank_with_cycles_and_missing_labels():
    circle = ranking(
        PROMPT, ["a", "b", "c"], [label("a", "b", 0.9), label("b", "c", 0.9), label("c", "a", 0.9)]
    )
    assert circle.strengths == pytest.approx((0, 0, 0), abs=1e-6)
    unscored = ranking(
        PROMPT,
        ["a", "b"],
        [
            Preference(
                id="u",
                comparison=Comparison.of(PROMPT, "a", "b"),
                p_first=None,
                status="unscored",
                source="ai",
            )
        ],
    )
    assert unscored.answers == ("a", "b") and unscored.strengths == pytest.approx((0, 0))
    certain = ranking(PROMPT, ["a", "b"], [label("b", "a", 1.0)])
    assert certain.answers == ("b", "a") and certain.strengths[0] < 10
    (fitted,) = rankings([label("a", "b", 0.2), label("b", "c", 0.9)])
    assert fitted.answers[0] == "b" and set(fitted.answers) == {"a", "b", "c"}


@pytest.mark.parametrize("method", [PairwiseLogprobs(), CritiqueOdds()], ids=lambda m: m.name)
def test_rank_asks_no_request_twice(method):
    badness = {"very bad": 0.9, "rather bad": 0.6, "quite fine": 0.2, "very fine": 0.05}

    def weigh(messages, options):
        if options[0] == "A":
            text = messages[-1].content
            first, second = sorted(
                (text.find(answer), answer) for answer in badness if answer in text
            )
            return [badness[second[1]] - badness[first[1]], 0.0]
        value = badness[messages[-2].content]
        return [math.log(value), math.log(1 - value)]

    cache = ResponseCache(Path(":memory:"))
    model = cache.cached_model(ScriptedBackend(None, weigh), "s")
    fitted = cai.rank(PROMPT, list(badness), CONSTITUTION, model, method)
    assert fitted.answers == ("very fine", "quite fine", "rather bad", "very bad")
    assert list(fitted.strengths) == sorted(fitted.strengths, reverse=True)
    # a critique is of one answer, and is not asked for once more with every pair
    assert cache.usage["s"].requests == (12 if method.name == "option_logprobs" else 4)
    with pytest.raises(ValueError, match="the same"):
        cai.rank(PROMPT, ["a", "a"], CONSTITUTION, model, method)
