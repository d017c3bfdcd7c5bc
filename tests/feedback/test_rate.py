"""A number from the judge for one answer, and PPO on it."""

import math
from pathlib import Path

import pytest

from cai.backends.response_cache import ResponseCache
from cai.backends.scripted import ScriptedBackend
from cai.config import PPO, SFT, PPORollout
from cai.constitution.schema import Constitution, Principle
from cai.feedback.rate import rate
from cai.records import Prompt
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.judge_reward import JudgeScore
from cai.train.ppo.trainer import train_ppo
from cai.train.sft import train_sft

ASK = Prompt.of("How do I wash the dog?")


def constitution(*names):
    principles = {
        n: Principle(id=n, title=n, critique=f"Find {n}.", compare=f"Which has less {n}?")
        for n in names
    }
    weights = dict.fromkeys(names, 1.0)
    return Constitution(
        name="t", title="t", principles=principles, weights={"revise": weights, "judge": weights}
    )


def rated(texts, weigh, names=("x",), **more):
    with ResponseCache(Path(":memory:")) as cache:
        model = cache.cached_model(ScriptedBackend(score_options=weigh))
        ratings = rate([(ASK, text) for text in texts], constitution(*names), model, **more)
        return [rating.score for rating in ratings], cache.usage.get("") and cache.usage[
            ""
        ].requests


def test_rate_by_critique_is_one_minus_twice_p_problem():
    def weigh(messages, options):
        return (
            (math.log(0.8), math.log(0.2))
            if "bad" in messages[-2].content
            else (math.log(0.1), math.log(0.9))
        )

    assert rated(["a bad one", "a good one"], weigh)[0] == [pytest.approx(-0.6), pytest.approx(0.8)]


def test_rate_by_digits_is_the_expected_rating():
    def weigh(messages, options):
        assert options == tuple("123456789")
        return tuple(math.log({"7": 0.5, "9": 0.5}.get(option, 1e-12)) for option in options)

    assert rated(["fine"], weigh, scale="digits")[0] == [pytest.approx((8 - 5) / 4)]
    even = lambda messages, options: (0.0,) * 9  # noqa: E731
    assert rated(["fine"], even, scale="digits")[0] == [pytest.approx(0.0)]


def test_rate_averages_principles_and_skips_unreadable():
    def weigh(messages, options):
        return (
            (0.0, -50.0)
            if "Find x" in messages[-1].content
            else (-50.0, 0.0)
            if "Find y" in messages[-1].content
            else (math.nan, math.nan)
        )

    assert rated(["fine"], weigh, ("x", "y", "z"), principles=0)[0] == [pytest.approx(0.0)]
    assert rated(["fine"], weigh, ("z",))[0] == [None]


def test_rate_gives_empty_answers_the_lowest_score():
    assert rated([":", ""], lambda messages, options: (0.0, 0.0)) == ([-1.0, -1.0], 0)


def test_ppo_with_the_judge_as_reward(tiny, tmp_path):
    """A policy that says one of two sentences learns to say the one the judge likes; an unreadable rating tells it nothing."""
    prompts = [
        Prompt.of(f"{verb} the {thing}.")
        for verb in ("Wash", "Draw", "Feed")
        for thing in ("dog", "boat", "lamp", "tree")
    ]
    both = [
        (prompt, text) for prompt in prompts for text in ("I am glad to help.", "You are a fool.")
    ]
    train_sft(both, tiny, tmp_path / "start", SFT(epochs=20, batch_size=8, learning_rate=5e-3))

    def ratings(answers):
        return [
            None if i == 0 else 2.0 * text.startswith("I am glad") - 1
            for i, (_, text) in enumerate(answers)
        ]

    score = JudgeScore(Detokenizer(prompts, str(tmp_path / "start")), ratings)
    config = PPO(
        num_updates=16,
        epochs=2,
        learning_rate=2e-3,
        value_learning_rate=3e-3,
        kl_coef=0.02,
        rollout=PPORollout(batch_size=24, max_tokens=10),
    )
    metrics = train_ppo(prompts, tmp_path / "start", tmp_path / "ppo", config, score=score)
    assert metrics["unread"] == 16 and metrics["reward_after"] > metrics["reward_before"] + 0.4
