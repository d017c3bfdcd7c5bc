"""The gate before training, on the reference world: the shipped judge passes, and sabotaged in six ways it does not."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from cai.backends import open_backend
from cai.backends.protocol import OptionLogprobs
from cai.backends.response_cache import ResponseCache
from cai.config import Audit
from cai.constitution import load_constitution
from cai.evaluate.audit import audit
from cai.evaluate.gate import gate_failures
from cai.evaluate.judge_tests import (
    adversarial_tests,
    judge_test_metrics,
    judge_tests,
    run_judge_tests,
)
from cai.feedback.judge import judge
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.keys import uniform
from cai.records import Comparison, Prompt
from cai.reference import measure, rules, world

LIMITS = Audit().model_dump()
LAW = load_constitution("reference")


@pytest.fixture(scope="module")
def pairs():
    """Answers of the world with a fault, beside the same without it; either stands first."""
    rng, made = random.Random(0), []
    for case in measure.cases(150, "held", 0):
        clean = rules.repair(case.principle, case.request, case.reply, rng, "held")
        pair = Comparison.of(
            Prompt.of(case.request.text), world.text_of(case.reply), world.text_of(clean)
        )
        made.append(pair if rng.random() < 0.5 else pair.swap())
    return [pair for pair in made if pair.first != pair.second]


@pytest.fixture(scope="module")
def honest():
    with ResponseCache(Path(":memory:")) as cache:
        yield cache.cached_model(open_backend("reference"), "judge")


class Sabotaged:
    """A judge whose log-probabilities somebody changes, who is shown the call beside them."""

    fingerprint = "sabotaged"
    template_set = "reference"

    def __init__(self, model, change):
        self.cached_model, self.change = model, change

    def __call__(self, calls):
        found = self.cached_model(calls)
        return [
            replace(a, logprobs=self.change(call, a.logprobs))
            if isinstance(a, OptionLogprobs)
            else a
            for call, a in zip(calls, found, strict=True)
        ]


def doubt(call, share):
    """Sure of something, for a share of the calls that depends on nothing that matters."""
    return (0.0, -9.0) if uniform("sabotage", repr(call.messages)) < share else (-9.0, 0.0)


STYLES = {
    "inverted": (CritiqueOdds(), lambda call, seen: seen[::-1], "examples"),
    "tosses a coin": (CritiqueOdds(), lambda call, seen: doubt(call, 0.5), "a coin"),
    "likes what is long": (
        CritiqueOdds(),
        lambda call, seen: (3 - len(call.messages[-2].content) / 30, 0.0),
        "crossed examples",
    ),
    "always says A": (
        PairwiseLogprobs(swap_positions=False),
        lambda call, seen: (0.0, -9.0),
        "the first answer wins",
    ),
    "never decides": (CritiqueOdds(), lambda call, seen: (-0.7, -0.7), "near one half"),
    "often says nothing": (
        CritiqueOdds(),
        lambda call, seen: (math.nan,) * 2 if doubt(call, 0.9)[0] == 0 else seen,
        "no label",
    ),
}


def found_wrong(pairs, model, method):
    labels = judge(pairs, LAW, model, method, principles=3, combine="sum")
    answered = judge_test_metrics(
        run_judge_tests([*judge_tests(LAW), *adversarial_tests(LAW)], method, model)
    )
    return gate_failures(audit(labels), answered, LIMITS)


def test_the_shipped_judge_passes(pairs, honest):
    assert found_wrong(pairs, honest, CritiqueOdds()) == []


@pytest.mark.parametrize("way", STYLES)
def test_a_sabotaged_judge_is_stopped(pairs, honest, way):
    method, change, says = STYLES[way]
    found = found_wrong(pairs, Sabotaged(honest, change), method)
    assert any(says in reason for reason in found), found
