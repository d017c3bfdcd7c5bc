"""What is measured of a rollout without knowing how good the answers are."""

import pytest
import torch
from toy_data import PROMPTS

from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import Ensemble
from cai.train.ppo.rollout import Rollout, Trajectory
from cai.train.ppo.signals import Signals

LENGTHS = [3, 5, 7, 9]


def rollout_of(scores, answers=None):
    answers = answers or [([5], [7] * length) for length in LENGTHS]
    return Rollout.of(
        [
            Trajectory(prompt, answer, *[[0.0] * len(answer)] * 3, score, 0.0, stopped=True)
            for (prompt, answer), score in zip(answers, scores, strict=True)
        ]
    )


def lengths_of(_prompts, answers):
    return torch.tensor([float(len(answer)) for answer in answers])


def test_score_and_length_correlate_over_the_scored_answers():
    measure = Signals(lengths_of).measure
    assert measure(rollout_of([3.0, 5.0, 7.0, 9.0])) == {
        "score_length_correlation": pytest.approx(1.0)
    }
    falling = measure(rollout_of([9.0, 8.0, 6.0, 1.0]))
    expected = torch.corrcoef(torch.tensor([LENGTHS, [9.0, 8.0, 6.0, 1.0]]))[0, 1]
    assert falling["score_length_correlation"] == pytest.approx(float(expected))


@pytest.mark.parametrize("scores", [[1.0] * 4, [1.0, 2.0, None, None]], ids=["equal", "unscored"])
def test_what_is_not_defined_is_left_out(scores):
    assert Signals(lengths_of).measure(rollout_of(scores)) == {}


def test_second_source_is_measured_beside_the_reward():
    second = Ensemble([lengths_of, lambda prompts, answers: -lengths_of(prompts, answers) / 2])
    metrics = Signals(lengths_of, second).measure(rollout_of([4.0, 3.0, 2.0, 1.0]))
    assert metrics["second_score"] == pytest.approx(sum(LENGTHS) / 4 / 4)
    assert metrics["second_agreement"] == pytest.approx(-1.0)
    assert metrics["score_spread"] == pytest.approx(sum(LENGTHS) / 4 * 0.75)


def test_an_answer_that_the_second_source_cannot_score_is_left_out():
    def second(prompts, answers):
        return [None, *lengths_of(prompts, answers).tolist()[1:]]

    answers = [([5], [7] * length) for length in (3, 5, 7, 9, 11)]
    metrics = Signals(lengths_of, second).measure(rollout_of([9.0, 1.0, 2.0, 3.0, 4.0], answers))
    assert metrics["second_score"] == pytest.approx(8.0)
    assert metrics["second_agreement"] == pytest.approx(1.0)


def test_format_raise_is_the_gain_of_the_best_perturbation(tiny):
    detokenizer = Detokenizer(PROMPTS, tiny)
    texts = ["I am glad.", "Go away.", "Use warm water.", "No."]
    rows = [
        detokenizer.chat.example(prompt.messages, text)
        for prompt, text in zip(PROMPTS, texts, strict=False)
    ]

    def dudes(prompts, answers):
        return [float("dude" in text) for _, text in detokenizer(prompts, answers)]

    rollout = rollout_of([0.0, 2.0, 0.0, 2.0], rows)
    for probed in (2, 4):
        metrics = Signals(dudes, None, detokenizer, probed).measure(rollout)
        assert metrics["format_raise"] == pytest.approx(1.0), "slang adds 1; the deviation is 1"
    assert "format_raise" not in Signals(dudes, None, detokenizer).measure(rollout)
