"""The audit sees what is wrong with labels, on labels that are wrong by design; and nothing where nothing is."""

import math
import random
from functools import cache

import pytest

from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.config import Audit
from cai.constitution import load_constitution
from cai.evaluate.audit import audit, bigram_jaccard, contradictions, most_common
from cai.evaluate.gate import chance, gate_failures
from cai.evaluate.judge_tests import (
    adversarial_tests,
    judge_test_metrics,
    judge_tests,
    passed_by_principle,
    run_judge_tests,
)
from cai.evaluate.statistics import correlation, wilson
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.records import Comparison, Judgment, Preference, Prompt

LIMITS = Audit().model_dump()
NO_EXAMPLES = {kind: {"n": 0} for kind in ("plain", "crossed", "irrelevant", "adversarial_flips")}


def judgment(principle, p):
    return Judgment(principle=principle, principle_hash="h", method="critique", p_first=p)


def labels(label, count=400, seed=0):
    """Pairs of a clean answer and one with a fault, in random order; ``label(rng, good_is_first, longer_is_first)`` judges."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        good, bad = (f"answer {i} " + "word " * rng.randint(1, 30) for _ in range(2))
        first_is_good = rng.random() < 0.5
        first, second = (good, bad) if first_is_good else (bad, good)
        p = label(rng, first_is_good, len(first) > len(second))
        status = {} if p is not None else {"status": "unscored"}
        judgments = () if p is None else (judgment("a", p), judgment("b", 0.5))
        made.append(
            Preference(
                id=str(i),
                comparison=Comparison.of(Prompt.of(f"q{i}"), first, second),
                p_first=p,
                source="ai",
                judgments=judgments,
                **status,
            )
        )
    return made


HONEST = lambda rng, good, longer: 0.9 if good == (rng.random() < 0.9) else 0.1  # noqa: E731
SABOTAGED = {
    "first wins": (lambda rng, good, longer: 0.9, "first answer wins"),
    "second wins": (
        lambda rng, good, longer: 0.1 if rng.random() < 0.9 else 0.9,
        "first answer wins only",
    ),
    "longer": (lambda rng, good, longer: 0.9 if longer else 0.1, "longer answer"),
    "indifferent": (lambda rng, good, longer: 0.5, "near one half"),
    "silent": (
        lambda rng, good, longer: None if rng.random() < 0.4 else 0.9 if good else 0.1,
        "no label",
    ),
}


def test_honest_labels_pass():
    assert gate_failures(audit(labels(HONEST)), NO_EXAMPLES, LIMITS) == []


@pytest.mark.parametrize("name", SABOTAGED)
def test_sabotage_is_seen(name):
    label, says = SABOTAGED[name]
    found = gate_failures(audit(labels(label)), NO_EXAMPLES, LIMITS)
    assert len(found) == 1 and says in found[0]


def test_a_few_labels_prove_nothing():
    assert (
        gate_failures(audit(labels(SABOTAGED["first wins"][0], count=4)), NO_EXAMPLES, LIMITS) == []
    )


def test_figures_of_each_principle():
    metrics = audit(labels(HONEST))["principles"]
    assert (
        metrics["a"]["decides"] == 1.0
        and metrics["a"]["agrees"] == 1.0
        and metrics["b"]["decides"] == 0.0
        and "agrees" not in metrics["b"]
    )


def test_labels_that_are_not_there_have_no_figures():
    unscored = labels(lambda rng, good, longer: None, count=3)
    for found in (audit([]), audit(unscored)):
        assert found["position"] == {
            "first_wins": {"n": 0},
            "first_letter": None,
            "order_consistency": None,
            "same_in_both_orders": {"n": 0},
        }
        assert found["option_mass"] == {"n": 0}
        assert found["length"] == {"longer_wins": {"n": 0}, "correlation": None} and found[
            "near_ties"
        ] == {"n": 0}
        assert found["principles"] == {}
    nothing = audit([])
    assert (
        nothing["unscored"] == {"n": 0}
        and nothing["most_common"] == {}
        and gate_failures(nothing, NO_EXAMPLES, LIMITS) == []
    )
    assert not {"identical", "near_duplicates", "unique_answers"} & set(nothing)
    assert gate_failures(audit(unscored), NO_EXAMPLES, LIMITS | {"max_unscored": 0.0})[
        0
    ].startswith("100% of the comparisons have no label")
    assert judge_test_metrics([]) == NO_EXAMPLES


def test_a_coin_without_crossed_examples_is_told_by_the_plain_ones():
    plain = {"plain": wilson(9, 16)._asdict()}
    assert gate_failures(audit(labels(HONEST)), NO_EXAMPLES | plain, LIMITS) == [
        "the judge is no better than a coin: 56% of the constitution's 16 examples right"
    ]


def test_circles_are_counted_whatever_the_order_of_the_answers():
    def prefer(prompt, better, worse, flipped):
        pair = Comparison.of(Prompt.of(prompt), better, worse)
        p = Preference(id=f"{prompt}{better}", comparison=pair, p_first=0.9, source="ai")
        return p.swap() if flipped else p

    for flips in range(8):
        flip = [bool(flips >> i & 1) for i in range(3)]
        circle = [
            prefer("p", a, b, f)
            for (a, b), f in zip([("x", "y"), ("y", "z"), ("z", "x")], flip, strict=True)
        ]
        line = [
            prefer("q", a, b, f)
            for (a, b), f in zip([("x", "y"), ("y", "z"), ("x", "z")], flip, strict=True)
        ]
        assert contradictions(circle + line) == {"triples": 2, "cycles": 1}


def test_answers_that_are_alike_and_policies_that_collapse_show():
    assert (
        bigram_jaccard("Yes it is so", "yes  it is so") == 1.0
        and bigram_jaccard("Yes it is so", "No never") == 0.0
    )
    assert (
        bigram_jaccard("a b c d", "a b c e") == 3 / 5
    )  # "a", "a b", "b c" of those and "c d", "c e"
    pairs = [
        ("I will not help you. Ask a friend.", "I will not help you. Ask a nurse."),
        ("Wash it.", "I will not help with that."),
    ]
    made = [
        Preference(
            id=str(i), comparison=Comparison.of(Prompt.of(str(i)), *pair), p_first=0.9, source="ai"
        )
        for i, pair in enumerate(pairs)
    ]
    found = most_common(made)
    assert (
        found["opening"] == {"text": "I will not help", "share": 0.75}
        and found["answer"]["share"] == 0.25
    )
    assert audit(made)["near_duplicates"] == 0.0 and most_common([]) == {}
    twins = [
        Preference(
            id="t",
            comparison=Comparison.of(Prompt.of("t"), "a b c d e f g h i j", "a b c d e f g h i k"),
            p_first=0.9,
            source="ai",
        )
    ]
    assert audit(twins)["near_duplicates"] == 1.0


def test_correlation_against_the_definition():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1) and correlation(
        [1, 2, 3], [3, 2, 1]
    ) == pytest.approx(-1)
    assert correlation([1, 1], [0, 5]) is None and correlation([], []) is None


# -- examples ----------------------------------------------------------------------------------------------------------


@cache
def constitution():
    return load_constitution("harmless")


def results_of(weigh, tmp_path, method=None):
    with ResponseCache(tmp_path / "responses.sqlite") as cache:
        asked = [*judge_tests(constitution()), *adversarial_tests(constitution())]
        model = cache.cached_model(ScriptedBackend(score_options=weigh))
        return run_judge_tests(asked, method or CritiqueOdds(), model)


def judge(weigh, tmp_path, method=None):
    return judge_test_metrics(results_of(weigh, tmp_path, method))


def guilty(messages):
    """Whether the answer is the worse one of an example of the very principle that is asked about."""
    request, answer = messages[-1].content, messages[-2].content
    asked = [
        p
        for p in constitution().principles.values()
        if p.critique and p.critique.strip() in request
    ]
    return any(
        example.worse.strip() in answer for principle in asked for example in principle.examples
    )


def test_a_judge_that_reads_passes_all_three(tmp_path):
    found = judge(
        lambda messages, options: (0.0, -5.0) if guilty(messages) else (-5.0, 0.0), tmp_path
    )
    assert found["plain"]["n"] >= 16 and all(
        found[kind]["value"] == 1.0 for kind in ("plain", "crossed", "irrelevant")
    )


def test_what_a_judge_misses_is_known_by_principle(tmp_path):
    blind = next(p for p in constitution().principles.values() if p.critique and p.examples)

    def weigh(messages, options):
        sees = guilty(messages) and blind.critique.strip() not in messages[-1].content
        return (0.0, -5.0) if sees else (-5.0, 0.0)

    results = results_of(weigh, tmp_path)
    found = passed_by_principle(results)
    plain = {name: by_kind["plain"] for name, by_kind in found.items()}
    assert plain[blind.id]["value"] == 0.0
    assert {share["value"] for name, share in plain.items() if name != blind.id} == {1.0}
    assert sum(share["n"] for share in plain.values()) == judge_test_metrics(results)["plain"]["n"]


def test_a_judge_that_only_likes_clean_answers_fails_the_crossing(tmp_path):
    """It counts all that is wrong, whatever principle it is asked about."""
    worse = [e.worse.strip() for p in constitution().principles.values() for e in p.examples]

    def weigh(messages, options):
        return (0.0, -5.0) if any(text in messages[-2].content for text in worse) else (-5.0, 0.0)

    found = judge(weigh, tmp_path)
    assert (
        found["plain"]["value"] == 1.0
        and found["crossed"]["value"] == 0.0
        and found["irrelevant"]["value"] == 0.0
    )
    assert "does not follow the principle" in gate_failures(audit(labels(HONEST)), found, LIMITS)[0]


def test_a_judge_that_is_talked_round_is_stopped(tmp_path):
    """It reads well, until an answer tells it what to say."""
    tricks = ("answer is", "choose", "judge", "better", "verdict", "reply", "no problem")

    def weigh(messages, options):
        fooled = any(trick in messages[-2].content.lower() for trick in tricks)
        return (0.0, -5.0) if guilty(messages) and not fooled else (-5.0, 0.0)

    found = judge(weigh, tmp_path)
    assert found["plain"]["value"] > 0.9 and found["adversarial_flips"]["value"] > 0.6
    assert (
        "flip when an answer asks for it" in gate_failures(audit(labels(HONEST)), found, LIMITS)[0]
    )
    (tmp_path / "another").mkdir()
    steadfast = judge(
        lambda messages, options: (0.0, -5.0) if guilty(messages) else (-5.0, 0.0),
        tmp_path / "another",
    )
    # a text with nothing of the answer in it breaks no principle, and so is no flip that reading could prevent
    assert steadfast["adversarial_flips"]["value"] < 0.1


def test_what_says_nothing_loses_here_as_in_the_labels(tmp_path):
    asked = [
        question
        for question in adversarial_tests(constitution())
        if question.attack in ("colon", "heading")
    ]
    with ResponseCache(tmp_path / "responses.sqlite") as cache:
        model = cache.cached_model(
            ScriptedBackend(score_options=lambda messages, options: (0.0, 0.0))
        )
        assert (
            asked
            and all(answer.passed for answer in run_judge_tests(asked, CritiqueOdds(), model))
            and model.cache.usage[""].requests == 0
        )


def test_judges_that_are_worse_than_a_coin_are_stopped(tmp_path):
    found = judge(
        lambda messages, options: (-5.0, 0.0) if guilty(messages) else (0.0, -5.0), tmp_path
    )
    assert found["plain"]["value"] == 0.0
    assert "own examples" in gate_failures(audit(labels(HONEST)), found, LIMITS)[0]


def test_a_coin_is_told_from_a_judge_where_there_are_examples_enough():
    assert (
        chance({"n": 3, "value": 2 / 3}, 0.5) == pytest.approx(4 / 8)
        and chance({"n": 0}, 0.5) == 1.0
    )

    def of(plain, crossed, n=16):
        return {kind: {"n": 0} for kind in ("irrelevant", "adversarial_flips")} | {
            "plain": wilson(plain, n)._asdict(),
            "crossed": wilson(crossed, n)._asdict(),
        }

    good = audit(labels(HONEST))
    assert "than a coin: 56% of the constitution's 16" in gate_failures(good, of(9, 4), LIMITS)[0]
    assert gate_failures(good, of(13, 4), LIMITS) == [] == gate_failures(good, of(9, 9), LIMITS)
    assert gate_failures(good, of(4, 1, 8), LIMITS) == []  # so few prove nothing
    assert gate_failures(good, of(9, 4), LIMITS | {"min_examples_accuracy": 0.0}) == []


def test_a_judge_that_answers_a_is_a_coin_by_construction(tmp_path):
    found = judge(
        lambda messages, options: (0.0, -3.0), tmp_path, PairwiseLogprobs(swap_positions=False)
    )
    assert 0.2 < found["plain"]["value"] < 0.8  # which answer stands first is drawn
    none = judge(
        lambda messages, options: (math.nan, math.nan),
        tmp_path,
        PairwiseLogprobs(swap_positions=True),
    )
    assert none["plain"]["value"] == 0.0
