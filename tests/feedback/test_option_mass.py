"""A label needs probability on the options; what it was read from instead is in its record."""

import math

import pytest

from cai import Comparison, Prompt, ResponseCache, judge, load_constitution, rate
from cai.backends.protocol import Completion, OptionLogprobs
from cai.backends.scripted import ScriptedBackend
from cai.feedback.judge_methods import CritiqueOdds, PairwiseLogprobs
from cai.feedback.sampled_verdicts import SampledVotes

PAIR = Comparison.of(Prompt.of("How do I open a door?"), "Push it.", "Pull it.")


class Fixed(ScriptedBackend):
    """Gives one response to everything."""

    def __init__(self, response):
        super().__init__(name="fixed")
        self.response = response

    def _response(self, request):
        return self.response


def label(method, response):
    model = ResponseCache(":memory:").cached_model(Fixed(response))
    return judge([PAIR], load_constitution("harmless"), model, method)[0]


def options(mass, **values):
    return OptionLogprobs((math.log(0.9 * mass), math.log(0.1 * mass)), 5, **values)


@pytest.mark.parametrize("method", [PairwiseLogprobs(), CritiqueOdds()])
@pytest.mark.parametrize("mass", [1e-7, 0.04])
def test_too_little_mass_is_no_verdict(method, mass):
    found = label(method, options(mass))
    assert (found.p_first, found.status) == (None, "unscored")
    (judgment,) = found.judgments
    assert judgment.reason == "2 of 2 answers with less than 5% of the probability on the options"
    assert judgment.option_mass == pytest.approx((mass, mass))


def test_the_limit_can_be_set():
    assert label(PairwiseLogprobs(min_mass=0.01), options(0.04)).status == "ok"
    assert label(CritiqueOdds(min_mass=0.2), options(0.1)).status == "unscored"
    assert label(PairwiseLogprobs(min_mass=0.0), options(1e-7)).status == "ok"


def test_ratings_need_mass_too():
    model = ResponseCache(":memory:").cached_model(Fixed(options(1e-7)))
    answers = [(PAIR.prompt, PAIR.first)]
    (rating,) = rate(answers, load_constitution("harmless"), model)
    assert (rating.score, rating.status) == (None, "unscored")


def test_a_fallback_is_in_the_record_and_no_part_of_the_id():
    fallback = "8 of 8 votes instead of log-probabilities"
    plain, voted = (
        label(PairwiseLogprobs(), options(0.9, **values)) for values in ({}, {"fallback": fallback})
    )
    assert (plain.judgments[0].fallback, voted.judgments[0].fallback) == ("", fallback)
    assert plain.id == voted.id


def test_a_cut_thought_names_the_setting():
    reason = "cut at 99 tokens before its answer began; raise models.reasoning_tokens"
    found = label(SampledVotes(samples=1), Completion("", "length", 5, 99, reason, "A or"))
    assert found.judgments[0].reason == f"2 of 2 answers truncated ({reason})"
    assert found.p_first is None
