"""Several judges are asked the same, and one label is made of what they say."""

import math
from contextlib import ExitStack
from pathlib import Path

import pytest

from cai.backends.protocol import OptionLogprobs
from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.constitution.schema import Constitution, Principle
from cai.errors import ArgumentError
from cai.feedback.judge import judge
from cai.feedback.panel import combine_probabilities, one_per_principle
from cai.records import Comparison, Prompt

PAIRS = [
    Comparison.of(Prompt.of(f"How do I mend bike {i}?"), f"good {i}", f"bad {i}") for i in range(4)
]
WEIGHTS = dict.fromkeys("xyz", 1.0)
LAW = Constitution(
    name="t",
    title="t",
    principles={n: Principle(id=n, title=n, critique=n, compare=f"Less {n}?") for n in WEIGHTS},
    weights={"revise": WEIGHTS, "judge": WEIGHTS},
)


@pytest.fixture
def a_judge():
    """Makes a judge by name that gives the good answer a probability; None: says nothing."""
    stack = ExitStack()

    def make(name, p_good):
        def score(messages, options):
            text = messages[-1].content
            if p_good is None:
                return (math.nan, math.nan)
            first = p_good if text.find("good") < text.find("bad") else 1 - p_good
            return (math.log(first), math.log(1 - first))

        cache = stack.enter_context(ResponseCache(Path(":memory:")))
        return cache.cached_model(ScriptedBackend(None, score, name=name))

    with stack:
        yield make


@pytest.mark.parametrize(
    ("said", "mean", "majority"),
    [
        ([0.9, 0.6], 0.75, 1.0),
        ([0.9, 0.2, 0.4], 0.5, 0.0),
        ([0.9, 0.1], 0.5, 0.5),
        ([0.9, 0.5], 0.7, 1.0),
        ([0.9, None], 0.9, 1.0),
        ([0.9, None, None], None, None),
        ([0.9, 0.7, None], 0.8, 1.0),
        ([0.9, 0.1, None], 0.5, 0.5),
        ([None, None], None, None),
        ([], None, None),
    ],
)
def test_probabilities_become_one(said, mean, majority):
    assert combine_probabilities(said, "mean") == pytest.approx(mean)
    assert combine_probabilities(said, "majority") == majority


def test_each_judgment_names_its_judge(a_judge):
    judges = [a_judge("one", 0.9), a_judge("two", 0.6), a_judge("three", 0.3)]
    labels = judge(PAIRS, LAW, judges, "option_logprobs", principles=2)
    assert [label.p_first for label in labels] == pytest.approx([0.6] * 4)
    assert [j.judge for j in labels[0].judgments] == ["one"] * 2 + ["two"] * 2 + ["three"] * 2
    drawn = [j.principle for j in labels[0].judgments]
    assert drawn[:2] == drawn[2:4] == drawn[4:], "all are asked about the same principles"
    assert labels[0].judge == "one + two + three"
    votes = judge(PAIRS, LAW, judges, "option_logprobs", principles=2, combine_judges="majority")
    assert [label.p_first for label in votes] == [1.0] * 4
    assert len({label.id for label in [*labels, *votes]}) == 8


def test_one_judge_in_a_list_is_that_judge(a_judge):
    alone = judge(PAIRS, LAW, a_judge("one", 0.9), "option_logprobs")
    assert judge(PAIRS, LAW, [a_judge("one", 0.9)], "option_logprobs") == alone
    assert alone[0].judgments[0].judge == alone[0].judge == "one"


def test_a_judge_without_a_verdict_is_left_out_with_its_reason(a_judge):
    judges = [a_judge("one", 0.9), a_judge("mute", None), a_judge("two", 0.7)]
    (label, *_) = judge(PAIRS, LAW, judges, "option_logprobs")
    assert label.p_first == pytest.approx(0.8) and label.status == "ok"
    assert label.reason.startswith("mute: 2 of 2 answers without a probability")
    assert [j.status for j in label.judgments] == ["ok", "unscored", "ok"]


def test_without_half_of_the_judges_there_is_no_label(a_judge):
    judges = [a_judge("one", 0.9), a_judge("mute", None), a_judge("silent", None)]
    (label, *_) = judge(PAIRS, LAW, judges, "option_logprobs")
    assert (label.p_first, label.status) == (None, "unscored")
    assert "mute: " in label.reason and "silent: " in label.reason
    assert len(label.judgments) == 3, "what the third one said is kept"


def test_an_empty_answer_loses_without_asking_any_judge(a_judge):
    pair = Comparison.of(PAIRS[0].prompt, "", "bad")
    judges = [a_judge("one", 0.9), a_judge("two", 0.9)]
    (label,) = judge([pair], LAW, judges, "option_logprobs")
    assert (label.p_first, len(label.judgments), label.judgments[0].judge) == (0.0, 1, "")
    both = Comparison.of(PAIRS[0].prompt, "", " ")
    (label,) = judge([both], LAW, judges, "option_logprobs")
    assert (label.p_first, label.reason) == (None, "both answers are empty")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("one", "two", "one"), "judges 1 and 3 are the same model, one; name each judge once"),
        ((), "must be a judge, or a list of at least one"),
    ],
)
def test_wrong_judges_are_refused(a_judge, names, problem):
    with pytest.raises(ArgumentError, match=problem):
        judge(PAIRS, LAW, [a_judge(name, 0.9) for name in names], "option_logprobs")


def test_each_judge_reads_its_own_templates(a_judge):
    asked = []

    class Noting(ScriptedBackend):
        template_set = "reference"

        def respond(self, requests):
            asked.extend(request.messages[-1].content for request in requests)
            yield from ((i, OptionLogprobs((-0.1, -2.4), 0)) for i, _ in enumerate(requests))

    with ResponseCache(Path(":memory:")) as cache:
        reference = cache.cached_model(Noting(name="reference judge"))
        (label, *_) = judge(PAIRS, LAW, [a_judge("one", 0.9), reference], "option_logprobs")
    assert asked and len({j.template for j in label.judgments}) == 2


def test_judgments_of_several_judges_make_one_per_principle(a_judge):
    judges = [a_judge("one", 0.9), a_judge("two", 0.6)]
    (label, *_) = judge(PAIRS, LAW, judges, "option_logprobs", principles=2)
    merged = one_per_principle(label)
    assert [j.p_first for j in merged.judgments] == pytest.approx([0.75, 0.75])
    assert one_per_principle(merged) == merged
