"""The gate before training, on the reference world: the shipped judge passes, and sabotaged in six ways it does not."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from cai.backends import open_backend
from cai.backends.memo import Memo
from cai.backends.protocol import Choice
from cai.config import Audit
from cai.constitution import load_constitution
from cai.evaluate.audit import audit, failings
from cai.evaluate.examples import examine, hostile, marks, questions
from cai.feedback.judge import judge
from cai.feedback.readings import CritiqueOdds, Letters
from cai.keys import uniform
from cai.records import Comparison, Prompt
from cai.reference import measure, world

LIMITS = Audit().model_dump()
LAW = load_constitution("reference")


@pytest.fixture(scope="module")
def pairs():
    """Answers of the world with a fault, beside the same without it; either stands first."""
    rng, made = random.Random(0), []
    for case in measure.cases(150, "held", 0):
        clean = world.repair(case.principle, case.request, case.reply, rng, "held")
        pair = Comparison.of(Prompt.of(case.request.text), world.text_of(case.reply), world.text_of(clean))
        made.append(pair if rng.random() < 0.5 else pair.swap())
    return [pair for pair in made if pair.first != pair.second]


@pytest.fixture(scope="module")
def honest():
    with Memo(Path(":memory:")) as memo:
        yield memo.asker(open_backend("reference"), "judge")


class Sabotaged:
    """A judge whose log-probabilities somebody changes, who is shown the call beside them."""

    fingerprint = "sabotaged"

    def __init__(self, ask, change):
        self.ask, self.change = ask, change

    def __call__(self, calls):
        found = self.ask(calls)
        return [
            replace(a, logprobs=self.change(call, a.logprobs)) if isinstance(a, Choice) else a for call, a in zip(calls, found, strict=True)
        ]


def doubt(call, share):
    """Sure of something, for a share of the calls that depends on nothing that matters."""
    return (0.0, -9.0) if uniform("sabotage", repr(call)) < share else (-9.0, 0.0)


WAYS = {
    "inverted": (CritiqueOdds(), lambda call, seen: seen[::-1], "examples"),
    "tosses a coin": (CritiqueOdds(), lambda call, seen: doubt(call, 0.5), "a coin"),
    "likes what is long": (CritiqueOdds(), lambda call, seen: (3 - len(call.messages[-2].content) / 30, 0.0), "crossed examples"),
    "always says A": (Letters(both_orders=False), lambda call, seen: (0.0, -9.0), "stands first"),
    "never decides": (CritiqueOdds(), lambda call, seen: (-0.7, -0.7), "near one half"),
    "often says nothing": (CritiqueOdds(), lambda call, seen: (math.nan,) * 2 if doubt(call, 0.9)[0] == 0 else seen, "no label"),
}  # fmt: skip


def found_wrong(pairs, ask, method):
    labels = judge(pairs, LAW, ask, method, principles=3, combine="sum")
    answered = marks(examine([*questions(LAW), *hostile(LAW)], method, ask))
    return failings(audit(labels), answered, LIMITS)


def test_the_shipped_judge_passes(pairs, honest):
    assert found_wrong(pairs, honest, CritiqueOdds()) == []


@pytest.mark.parametrize("way", WAYS)
def test_a_sabotaged_judge_is_stopped(pairs, honest, way):
    method, change, says = WAYS[way]
    found = found_wrong(pairs, Sabotaged(honest, change), method)
    assert any(says in reason for reason in found), found
