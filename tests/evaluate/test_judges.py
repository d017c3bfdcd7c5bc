"""Figures of a judge, where there is nothing to measure some of them by."""

from types import SimpleNamespace

from cai.constitution import load_constitution
from cai.pipeline.judge_metrics import against_gold, crossover, order_consistency
from cai.records import Comparison, Judgment, Preference, Prompt

INSULT = "reference/insult"


def judgment(p, **evidence):
    return Judgment(principle=INSULT, principle_hash="h", method="m", p_first=p, evidence=evidence)


def test_order_consistency_is_of_readings_in_both_orders():
    assert order_consistency([judgment(0.9)]) == {}
    both = [
        judgment(0.9, p_A_order_1=0.9, p_A_order_2=0.2),
        judgment(0.5, p_A_order_1=0.9, p_A_order_2=0.8),
    ]
    assert order_consistency(both) == {"order_consistency": 0.5}


def test_accuracy_needs_a_reading_that_can_be_right():
    run = SimpleNamespace(constitution=load_constitution("reference"))
    assert against_gold(run, []) == {"decidable": 0, "irrelevant": 0}
    outside = Comparison.of(Prompt.of("What is the capital of France?"), "Paris.", "Rome.")
    judged = Preference(
        id="p", comparison=outside, p_first=0.9, source="ai", judgments=(judgment(0.9),)
    )
    assert against_gold(run, [judged]) == {"decidable": 0, "irrelevant": 0}
    prompt = Prompt.of("How do I wash the dog?")
    same = Comparison.of(prompt, "With soap.", "With soap and water.")
    irrelevant = Preference(
        id="p", comparison=same, p_first=0.5, source="ai", judgments=(judgment(0.5),)
    )
    assert against_gold(run, [irrelevant]) == {
        "decidable": 0,
        "irrelevant": 1,
        "ties_when_irrelevant": 1.0,
    }


def test_crossover_needs_two_principles_to_cross():
    constitution = SimpleNamespace(principles={}, used_for=lambda use: {})
    run = SimpleNamespace(
        constitution=constitution,
        config=SimpleNamespace(seed=0),
        judge=lambda stage: lambda requests: [],
    )
    assert crossover(run, SimpleNamespace(requests=None)) == {"crossover_n": 0}
