"""The monitor of PPO: evaluations, the best policy, limits that stop a training, warnings."""

import math

import pytest
import torch
from test_ppo import CONFIG
from toy_data import PROMPTS

from cai.config import PPO, Monitor, PPORollout
from cai.train.options import TrainerOptions
from cai.train.ppo.monitor import Limit, TrainingMonitor, limits_of
from cai.train.ppo.trainer import PPOInputs, train_ppo

ROW = {
    "kl": 0.0,
    "unique_fraction": 1.0,
    "score": 0.0,
    "score_std": 1.0,
    "stopped": 1.0,
    "length": 3.0,
    "unread": 0.0,
}


class Evaluations:
    """An evaluator that returns known metrics, one after the other."""

    def __init__(self, *metrics):
        self.metrics = iter(metrics)

    def evaluate(self):
        return next(self.metrics)


class SavedUpdates:
    """Checkpoints that count how often a best policy was saved."""

    def __init__(self):
        self.count = 0

    def save_best(self):
        self.count += 1


def monitor_of(settings, *evaluations):
    limits = limits_of(settings, batch_size=4, score_clip=10.0)
    return TrainingMonitor(settings, limits, SavedUpdates(), Evaluations(*evaluations))


@pytest.mark.parametrize(
    ("evaluations", "best_update", "saved"),
    [
        ([{"eval_score": 1.0}, {"eval_score": 3.0}, {"eval_score": 2.0}], 1, 2),
        ([{"eval_score": 3.0}, {"eval_score": 3.0}, {"eval_score": 2.0}], 1, 2),
        ([{"eval_score": 1.0, "eval_gold": 0.5}, {"eval_score": 2.0, "eval_gold": 0.4}], 0, 1),
        ([{"eval_kl": 0.0}, {"eval_score": -5.0}], 1, 2),
    ],
    ids=["score", "tie", "gold", "no score"],
)
def test_best_update_is_the_last_one_saved(evaluations, best_update, saved):
    monitor = monitor_of(Monitor(eval_every=1), *evaluations)
    for update in range(len(evaluations)):
        monitor.evaluate(update)
    assert monitor.summary()["best_update"] == best_update
    assert monitor.checkpoints.count == saved


def test_limit_stops_after_patience_updates_in_a_row():
    monitor = monitor_of(Monitor(max_kl=5, patience=2))
    history = []
    stops = []
    for kl in (6.0, 4.0, 6.0, 6.0, 4.0):
        history.append(ROW | {"kl": kl})
        monitor.after(len(history), history)
        stops.append(monitor.stopped_by)
    assert stops == ["", "", "", "KL above 5 nats", "KL above 5 nats"]
    assert monitor.summary()["alarms"] == {"KL above 5 nats": 3}


def test_limit_ignores_updates_without_the_metric():
    limit = Limit("entropy", "entropy below 1 nats", min=1.0)
    assert limit.is_broken({"entropy": 0.5})
    assert not limit.is_broken({"entropy": 1.0})
    assert not limit.is_broken({})


def test_step_without_finite_metrics_is_a_warning():
    monitor = monitor_of(Monitor(min_entropy=0.1, patience=1))
    alarm = {"alarm": "a step was skipped because its gradient was not finite"}
    assert monitor.after(1, [ROW | {"skipped": 1.0}]) == alarm
    assert not monitor.stopped_by
    assert monitor.after(2, [ROW | {"entropy": 0.01}]) == {"alarm": "entropy below 0.1 nats"}
    assert monitor.stopped_by == "entropy below 0.1 nats"


def test_monitor_resumes_from_its_state():
    settings = Monitor(eval_every=1, max_kl=5, patience=1)
    monitor = monitor_of(settings, {"eval_score": 1.0})
    monitor.evaluate(0)
    monitor.after(1, [ROW | {"kl": 9.0}])
    resumed = monitor_of(settings)
    resumed.load_state_dict(monitor.state_dict())
    assert resumed.summary() == monitor.summary()
    assert resumed.stopped_by == "KL above 5 nats"
    assert resumed.evaluate(0) == {}, "an update is evaluated once"


def test_monitor_keeps_the_best_policy_by_gold(two_answer_policy, good_score, tmp_path):
    """The score rises to the end; the gold score is best after update 2."""
    gold_scores = iter([0.2, 0.9, 0.5, 0.3, 0.2])
    gold_calls = []
    rows = []
    saved_policies = {}
    out = tmp_path / "ppo"

    def gold(answers):
        gold_calls.append(len(answers))
        return [next(gold_scores)] * len(answers)

    def log(row):
        rows.append(row)
        saved = tmp_path / "ppo.best/model.safetensors"
        saved_policies[row["update"]] = saved.read_bytes()

    settings = Monitor(eval_every=2, eval_prompts=6, keep="best")
    metrics = train_ppo(
        PROMPTS[6:],
        two_answer_policy,
        out,
        CONFIG.model_copy(update={"num_updates": 8}),
        score=good_score,
        inputs=PPOInputs(monitor=settings, eval_prompts=PROMPTS[:8], gold=gold),
        options=TrainerOptions(log=log),
    )
    assert gold_calls == [6] * 5
    assert [point["update"] for point in metrics["eval_points"]] == [0, 2, 4, 6, 8]
    assert [row["update"] for row in rows if "eval_gold" in row] == [2, 4, 6, 8]
    assert metrics["best_update"] == 2
    published = (out / "model.safetensors").read_bytes()
    assert saved_policies[1] != published, "the policy before training"
    assert saved_policies[2] == published
    assert not (tmp_path / "ppo.best").exists()


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_kl": 1e-3}, "KL above 0.001 nats"),
        ({"min_entropy": 9.0}, "entropy below 9 nats"),
        ({"min_unique_fraction": 1.0}, "fewer than 100% of the answers are unique"),
    ],
    ids=["kl", "entropy", "unique"],
)
def test_ppo_stops_at_a_limit(two_answer_policy, good_score, tmp_path, limit, reason):
    settings = Monitor(eval_every=1, eval_prompts=4, patience=2, **limit)
    inputs = PPOInputs(monitor=settings, eval_prompts=PROMPTS[:4])
    metrics = train_ppo(
        PROMPTS, two_answer_policy, tmp_path, CONFIG, score=good_score, inputs=inputs
    )
    assert metrics["stopped_by"] == reason
    assert 2 <= metrics["num_updates"] < 16
    assert sum(metrics["alarms"].values()) >= 2
    assert (tmp_path / "model.safetensors").is_file()


def test_ppo_warns_of_equal_scores(tiny, tmp_path):
    rows = []
    metrics = train_ppo(
        PROMPTS[:1],
        tiny,
        tmp_path,
        PPO(num_updates=2, rollout=PPORollout(batch_size=1, max_tokens=3)),
        score=lambda prompts, answers: torch.ones(len(answers)),
        options=TrainerOptions(log=rows.append),
    )
    warning = "all answers have the same score"
    assert warning in rows[0]["alarm"]
    assert metrics["alarms"][warning] == 2
    for row in rows:
        assert all(math.isfinite(value) for name, value in row.items() if name != "alarm")
