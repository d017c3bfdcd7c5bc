"""What PPO makes of the scores it is given: answers without one, and scores that are on no particular scale."""

import math

import pytest
import torch
from safetensors.torch import load_file
from test_options import CONFIG
from toy_data import PROMPTS, preferences
from transformers import AutoModelForSequenceClassification

from cai.config import PPO, Monitor, PPORollout, Reward, Training
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_tokenizer
from cai.rl.constraint import LagrangeMultiplier
from cai.train.loop import MicroBatch
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.rewards import (
    ConstraintReward,
    Ensemble,
    ScoreScale,
    is_normalised,
    mixed,
    reward_scorer,
)
from cai.train.ppo.rollout import Rollout, Trajectory, collect_rollout
from cai.train.ppo.trainer import Update, compute_targets, describe, rewarded, train_ppo
from cai.train.reward.trainer import train_reward

SMALL = PPO(
    num_updates=4, epochs=1, learning_rate=1e-3, rollout=PPORollout(batch_size=8, max_tokens=6)
)


class Normalised:
    """A score that says that it is normalised."""

    normalised = True

    def __init__(self, score):
        self.score = score

    def __call__(self, prompts, answers):
        return self.score(prompts, answers)


def weights(folder):
    return load_file(folder / "model.safetensors")


def clipped(config, clip):
    """The same settings with ``ppo.rollout.score_clip``."""
    rollout = config.rollout.model_copy(update={"score_clip": clip})
    return config.model_copy(update={"rollout": rollout})


def rolled_out(name, score, config, count=6, missing=None):
    """An agent, and its answers to some prompts, ``samples_per_prompt`` to each."""
    actor_critic = ActorCritic(name, "", config, Training(), 0)
    chat = ChatFormat(actor_critic.tokenizer)
    prompts = [
        chat.ids(chat.prompt(p.messages))
        for p in PROMPTS[: count // config.rollout.samples_per_prompt]
        for _ in range(config.rollout.samples_per_prompt)
    ]
    return actor_critic, collect_rollout(
        actor_critic, prompts, score, seeds=range(count), max_tokens=6, missing_eos_score=missing
    )


def every_third(prompts, answers):
    return [None if i % 3 == 0 else float(i) for i in range(len(answers))]


# -- answers without a score -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        PPO(epochs=2),
        PPO(epochs=2, critic="head"),
        PPO(epochs=2, method="rloo", rollout=PPORollout(samples_per_prompt=3, batch_size=6)),
    ],
)
def test_an_answer_without_a_score_moves_no_weight(tiny, config):
    """The update is that of a rollout in which such answers never were."""
    found = {}
    for kept in (False, True):
        actor_critic, rollout = rolled_out(tiny, every_third, config)
        targets = compute_targets(rollout, 0.1, config)
        assert (
            rollout.scored.tolist() == [False, True, True] * 2
            and not targets.advantages[~rollout.scored].any()
        )
        if kept:
            rows = rollout.scored.nonzero().flatten()
            rollout = Rollout.of([rollout.trajectories[i] for i in rows])
            length = rollout.mask.shape[1]
            targets = type(targets)(*(values[rows, :length] for values in targets))
        found[kept] = (
            Update(actor_critic, rollout, targets, [], config, 1000).run((0,)),
            dict(actor_critic.policy.named_parameters()),
        )
    metrics, standalone = found[False][0], found[True][0]
    assert all(
        torch.allclose(found[False][1][name], weight, atol=1e-5)
        for name, weight in found[True][1].items()
    )
    assert (
        metrics == {name: pytest.approx(value, abs=1e-3) for name, value in standalone.items()}
        and metrics["steps"] == 2
    )


def test_an_answer_without_a_score_is_no_better_than_those_that_have_one():
    """A judge that will not read an answer must not make it the best of its group."""
    scores = [None, -0.9, -0.9, -0.9, 0.9, 0.9, 0.9, 0.9]
    rollout = Rollout.of(
        [
            Trajectory(
                [5, 6],
                [7, 8],
                [0.0] * 2,
                [0.0] * 2,
                [0.0] * 2,
                score=score,
                constraint=0.0,
                stopped=True,
            )
            for score in scores
        ]
    )
    for method in ("grpo", "rloo"):
        advantages = compute_targets(
            rollout, 0.1, PPO(method=method, rollout=PPORollout(samples_per_prompt=4))
        ).advantages
        assert torch.allclose(advantages, torch.zeros(8, 2), atol=0.01)


def test_figures_are_of_the_answers_that_have_a_score(tiny):
    _, rollout = rolled_out(tiny, every_third, SMALL)
    metrics = describe(rollout, 0.1)
    assert metrics["unread"] == 2 and metrics["score"] == pytest.approx((1 + 2 + 4 + 5) / 4)
    assert metrics["score_std"] == pytest.approx(math.sqrt(2.5))
    for nothing in (None, math.nan, math.inf):
        _, rollout = rolled_out(
            tiny, lambda prompts, answers, nothing=nothing: [nothing] * len(answers), SMALL
        )
        metrics = describe(rollout, 0.1)
        assert (
            metrics["unread"] == 6
            and not {"score", "score_std"} & set(metrics)
            and math.isfinite(metrics["kl"])
        )
    # an answer that was cut off has the score of such answers, whatever the function says
    _, rollout = rolled_out(
        tiny, lambda prompts, answers: [None] * len(answers), SMALL, missing=-1.0
    )
    assert rollout.scored.tolist() == (~rollout.stopped).tolist()


def test_training_stops_where_most_answers_have_no_score(tiny, tmp_path):
    for most, stops in ((0.5, True), (0.8, False)):
        metrics = train_ppo(
            PROMPTS,
            tiny,
            "",
            tmp_path / str(most),
            SMALL,
            monitor=Monitor(max_unscored=most),
            score=lambda prompts, answers: [None if i % 4 else 1.0 for i in range(len(answers))],
        )
        assert metrics.get("stopped_by", "") == (
            "more than 50% of the answers have no score" if stops else ""
        )
        assert metrics["num_updates"] == (3 if stops else 4)


def test_scores_that_are_all_missing_change_nothing_and_are_no_figure(tiny, tmp_path):
    rows = []
    metrics = train_ppo(
        PROMPTS,
        tiny,
        "",
        tmp_path / "p",
        SMALL,
        score=lambda prompts, answers: [None] * len(answers),
        eval_prompts=PROMPTS[:3],
        monitor=Monitor(eval_every=1),
        log=rows.append,
    )
    assert metrics["stopped_by"] == "more than 50% of the answers have no score" and len(rows) == 3
    assert not {"reward_before", "reward_after"} & set(metrics) and not any(
        {"score", "eval_score"} & set(row) for row in rows
    )
    assert metrics["unread"] == 24 and all(row["steps"] == 0 for row in rows)
    assert all(
        math.isfinite(value) for row in rows for name, value in row.items() if name != "alarm"
    )
    before = load_file(f"{tiny}/model.safetensors")
    assert all(
        torch.equal(weight, before[name]) for name, weight in weights(tmp_path / "p").items()
    )


def test_looks_are_of_the_answers_that_have_a_score(tiny, tmp_path):
    metrics = train_ppo(
        PROMPTS,
        tiny,
        "",
        tmp_path / "p",
        SMALL,
        score=lambda prompts, answers: [None, *[2.0] * (len(answers) - 1)],
        eval_prompts=PROMPTS[:4],
        monitor=Monitor(eval_every=2),
    )
    assert [evaluate["eval_score"] for evaluate in metrics["eval_points"]] == [2.0] * 3


def test_a_guard_without_a_score_holds_nothing_for_that_answer(tiny, tmp_path):
    rows = []
    constraint = ConstraintReward(lambda prompts, answers: [None, *[3.0] * (len(answers) - 1)], 1.0)
    score = lambda prompts, answers: [1.0] * len(answers)  # noqa: E731
    metrics = train_ppo(
        PROMPTS,
        tiny,
        "",
        tmp_path / "p",
        SMALL,
        score=score,
        constraint=constraint,
        log=rows.append,
    )
    assert metrics["alarms"]["some answers have no score"] == metrics["unread"] == 4
    assert {row["constraint"] for row in rows} == {3.0} and {row["unread"] for row in rows} == {1}
    assert rows[0]["multiplier"] == pytest.approx(math.exp(0.1 * (1.0 - 3.0)))


def test_several_scores_have_none_where_one_has_none():
    ones = lambda prompts, answers: torch.ones(len(answers))  # noqa: E731
    ensemble = Ensemble([ones, every_third])
    values = ensemble([[1]] * 4, [[1]] * 4)
    assert (
        values.isnan().tolist() == [True, False, False, True]
        and values[1] == 1.0
        and ensemble.spread == pytest.approx(0.25)
    )
    assert mixed({ones: 1.0, every_third: 2.0})([[1]] * 2, [[1]] * 2).isnan().tolist() == [
        True,
        False,
    ]


def test_a_score_function_must_score_every_answer(tiny):
    with pytest.raises(InputError, match="5 scores for 6 answers"):
        rolled_out(tiny, lambda prompts, answers: [1.0] * 5, SMALL)


# -- the scale of scores -----------------------------------------------------------------------------------------------


def test_a_reward_far_from_zero_is_learnt_as_well(both_ways, glad, tmp_path):
    """With the settings of the test that learns the same reward without the 15."""
    metrics = train_ppo(
        PROMPTS,
        both_ways,
        "",
        tmp_path / "p",
        PPO(**CONFIG),
        score=lambda p, answers: glad(p, answers) + 15,
    )
    assert metrics["reward_before"] < 15.75 and metrics["reward_after"] > 15.8
    assert metrics["num_updates"] == 16 and "stopped_by" not in metrics


def test_scores_and_guards_far_from_zero_mix_as_those_near_it(tiny):
    near, far, least = torch.arange(6.0), torch.arange(6.0).flip(0), 1.0
    mixes = []
    for shift in (0.0, 15.0):
        _, rollout = rolled_out(tiny, every_third, SMALL)
        rollout = rollout._replace(scores=near + shift, constraints=far - shift)
        multiplier, scales = (
            LagrangeMultiplier(least - shift),
            [ScoreScale.of(every_third, SMALL) for _ in range(2)],
        )
        first, _ = rewarded(rollout, scales, multiplier)
        later, metrics = rewarded(rollout, scales, multiplier)
        assert (
            metrics["constraint"] == pytest.approx((4 + 3 + 1 + 0) / 4 - shift)
            and multiplier.value != 1
        )
        mixes.append(torch.stack([first.scores, later.scores]))
    assert torch.allclose(*mixes, atol=1e-4)


@pytest.mark.parametrize(
    ("wrap", "clip", "stops"),
    [
        (Normalised, None, "10"),
        (lambda score: score, None, ""),
        (lambda score: score, 5, "5"),
        (Normalised, 40, ""),
    ],
)
def test_only_scores_that_are_clipped_end_a_run_when_they_are_far(
    tiny, tmp_path, wrap, clip, stops
):
    score = wrap(
        lambda prompts, answers: torch.tensor([15.0 + len(set(answer)) for answer in answers])
    )
    metrics = train_ppo(PROMPTS, tiny, "", tmp_path / "p", clipped(SMALL, clip), score=score)
    assert metrics.get("stopped_by", "") == (
        f"mean score beyond {stops}, where scores are clipped" if stops else ""
    )


def test_scores_are_clipped_where_that_means_something(tiny):
    far = torch.tensor([30.0, 0.0, -30.0, 4.0, 2.0, 0.0])
    _, rollout = rolled_out(tiny, lambda prompts, answers: far, SMALL)
    plain, normalised = (
        ScoreScale.of(score, SMALL) for score in (every_third, Normalised(every_third))
    )
    assert normalised.apply(far, rollout).tolist() == [10.0, 0.0, -10.0, 4.0, 2.0, 0.0]
    expected = rollout.values[rollout.mask].mean()
    assert torch.allclose(plain.apply(far, rollout), far - far.mean() + expected, atol=1e-5)
    assert torch.allclose(
        plain.apply(far + 1, rollout), far + 1 - far.mean() + expected, atol=1e-5
    )  # measured once
    bounded = ScoreScale.of(every_third, clipped(SMALL, 3))
    assert bounded.apply(far, rollout).diff().tolist() == pytest.approx(
        [-3.0, -3.0, 6.0, -1.0, -2.0]
    )


def test_a_reward_model_says_whether_its_scores_are_normalised(tiny, tmp_path):
    train_reward(preferences(), tiny, tmp_path / "ours", Reward(batch_size=8))
    assert reward_scorer(str(tmp_path / "ours")).normalised
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1).save_pretrained(
        tmp_path / "elsewhere"
    )
    load_tokenizer(tiny).save_pretrained(tmp_path / "elsewhere")
    elsewhere = reward_scorer(str(tmp_path / "elsewhere"))
    assert not elsewhere.normalised and not is_normalised(every_third)
    members = [reward_scorer(str(tmp_path / "ours"))] * 2
    assert Ensemble(members).normalised and not Ensemble([*members, elsewhere]).normalised


# -- the passes of an update -------------------------------------------------------------------------------------------


def test_the_order_of_a_pass_changes_nothing(tiny):
    config = PPO(rollout=PPORollout(samples_per_prompt=2))
    actor_critic, rollout = rolled_out(
        tiny, lambda prompts, answers: torch.arange(float(len(answers))), config
    )
    update = Update(actor_critic, rollout, compute_targets(rollout, 0.1, config), [], config, 1000)
    losses = []
    for rows, counts in (
        ((0, 1, 2, 3, 4, 5), (1.0, 0.0, 1.0, 1.0, 1.0, 0.0)),
        ((5, 2, 0, 4, 1, 3), (0.0, 1.0, 1.0, 1.0, 0.0, 1.0)),
    ):
        part = MicroBatch(rows, counts)
        losses.append(
            [step(part, 10.0).loss.item() for step in (update._policy_part, update._value_part)]
        )
        assert part == (rows, counts)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert MicroBatch((5, 2, 0), (0.5, 1.0, 0.0)).sorted(lambda row: row) == (
        (0, 2, 5),
        (0.0, 1.0, 0.5),
    )
