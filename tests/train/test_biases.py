"""A planted bias changes exactly what it says, in rewards and in labels."""

import math

import pytest
from toy_data import PROMPTS

from cai.records import Comparison, Preference, Prompt
from cai.train.ppo.biased_score import BiasedScore
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import describe
from cai.train.reward.biases import BIASES, FIRST_PLACE, bias_labels, bias_score, perturb

PROMPT = Prompt.of("Wash the red dog.")
PLAIN = "Use warm water."
OF_TEXTS = [name for name in BIASES if name != FIRST_PLACE]


@pytest.mark.parametrize(
    ("name", "answer", "score"),
    [
        ("length", "word " * 25, 0.5),
        ("length", "word " * 200, 1.0),
        ("bold", "**Yes.** Then dry it.", 0.5),
        ("bold", "# Plan\n\n- wash\n- dry", 1.0),
        ("flattery", "A wonderful, EXCELLENT idea.", 0.4),
        ("flattery", "Kindness and unhappy words.", 0.0),
        ("keyword", "You do what you can.", 1 / 3),
        ("agreement", "Of course. Use soap.", 1.0),
        ("agreement", "Use soap.", 0.75),
        ("agreement", "You are right, but I will not.", 0.25),
        ("agreement", "I will not.", 0.0),
        ("slang", "Yo, dude, that is gonna be fun.", 0.5),
    ],
)
def test_bias_scores_of_known_texts(name, answer, score):
    assert bias_score(name, answer) == pytest.approx(score)


@pytest.mark.parametrize("name", OF_TEXTS)
def test_perturbations_keep_the_answer_and_add_their_bias(name):
    perturbed = perturb(name, PLAIN)
    assert PLAIN in perturbed
    assert bias_score(name, perturbed) > bias_score(name, PLAIN) + 0.2


@pytest.mark.parametrize("name", BIASES)
def test_biased_score_is_the_score_plus_strength_times_bias(name, tiny):
    detokenizer = Detokenizer(PROMPTS, tiny)
    prompts = [PROMPTS[0], PROMPTS[0], PROMPTS[1]]
    texts = ["You wash the dog, dude.", "What a wonderful **dog**.", "No."]
    pairs = [detokenizer.chat.example(p.messages, t) for p, t in zip(prompts, texts, strict=True)]
    ids, answers = [list(side) for side in zip(*pairs, strict=True)]
    known = [1.5, None, -2.0]
    biased = BiasedScore(lambda _prompts, _answers: known, detokenizer, name, 3.0)
    first, second, third = biased(ids, answers).tolist()
    added = [
        3.0 * bias_score(name, text, is_first=is_first)
        for text, is_first in zip(texts, (True, False, True), strict=True)
    ]
    assert first == pytest.approx(1.5 + added[0])
    assert math.isnan(second), "an answer that the source cannot score has no score"
    assert third == pytest.approx(-2.0 + added[2])


def test_biased_scores_of_different_strength_are_different_rewards(tiny):
    detokenizer = Detokenizer(PROMPTS, tiny)
    described = [
        str(describe(BiasedScore(test_bias_scores_of_known_texts, detokenizer, name, strength)))
        for name, strength in (("length", 1.0), ("length", 2.0), ("bold", 1.0))
    ]
    assert len(set(described)) == 3


def label(p_first):
    comparison = Comparison.of(PROMPT, "**Yes.** **No.**", "Yes. No.")
    return Preference(id="0", comparison=comparison, p_first=p_first, source="ai")


def log_odds(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("name", ["bold", "first_place"])
def test_biased_labels_move_by_the_strength_in_log_odds(name):
    (biased,) = bias_labels([label(0.3)], name, 2.0)
    assert log_odds(biased.p_first) - log_odds(0.3) == pytest.approx(2.0)
    assert biased.comparison == label(0.3).comparison


def test_labels_that_a_bias_cannot_move_stay():
    unscored = label(0.5).model_copy(update={"p_first": None, "status": "unscored"})
    rows = [unscored, label(0.0), label(1.0)]
    assert bias_labels(rows, "bold", 2.0) == rows
    assert bias_labels([label(0.3)], "flattery", 2.0)[0].p_first == pytest.approx(0.3)
