"""The optimizer: its schedule, and its guard against gradients that are not finite."""

from typing import get_args

import pytest
import torch
from transformers import get_scheduler

from cai.config.training import Optimizer, Scheduler
from cai.errors import RunFailed
from cai.train.engine import Engine, StepLoss, learning_rate_schedule, linear_schedule


@pytest.fixture
def engine():
    torch.manual_seed(0)
    return Engine(torch.nn.Linear(2, 1), learning_rate=0.1, steps=100)


def step(engine, value):
    return engine.step([lambda: StepLoss(engine.model(torch.full((1, 2), value)).sum())])


def parameters(engine):
    return torch.cat([parameter.detach().flatten() for parameter in engine.model.parameters()])


@pytest.mark.parametrize("name", get_args(Scheduler))
def test_schedules_are_those_of_the_library(name):
    rate = learning_rate_schedule(name, 0.5, 40, 0.1)
    rates = [rate(step) for step in range(40)]
    assert max(rates) == pytest.approx(0.5)
    assert all(0 <= r <= 0.5 for r in rates)
    if name == "linear":  # ours takes no step at a rate of 0
        return
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=40)
    for step in range(40):
        assert rates[step] == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_weight_decay_and_clipping_are_settings():
    config = Optimizer(weight_decay=0.25, max_grad_norm=2.0, lr_scheduler="constant")
    engine = Engine(torch.nn.Linear(2, 1), learning_rate=0.1, steps=10, config=config)
    assert [group["weight_decay"] for group in engine.optimizer.param_groups] == [0.25]
    engine.model.weight.data.zero_()
    engine.model.bias.data.zero_()
    inputs = torch.tensor([[300.0, 400.0]])
    metrics = engine.step([lambda: StepLoss(engine.model(inputs).sum())])
    assert metrics["grad_norm"] == pytest.approx(500.0, rel=1e-3)
    clipped = engine.optimizer.state[engine.model.weight]["exp_avg"] / 0.1
    assert clipped.norm() == pytest.approx(2.0, rel=1e-3)


def test_linear_schedule_warms_up_and_decays():
    rates = [linear_schedule(i, 40, 0.1) for i in range(41)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[22] == pytest.approx(0.5)
    assert rates[40] == 0.0
    assert linear_schedule(0, 1, 0.05) == 1.0


def test_nan_gradient_never_reaches_the_weights(engine):
    before = parameters(engine)
    for _ in range(4):
        assert step(engine, float("nan")) == {"skipped": 1.0}
    assert engine.skipped == 4
    assert torch.equal(parameters(engine), before)
    assert "skipped" not in step(engine, 1.0)
    assert not torch.equal(parameters(engine), before)


def test_training_stops_after_five_skipped_steps_in_a_row(engine):
    for _ in range(4):
        step(engine, float("nan"))
    step(engine, 1.0)
    for _ in range(4):
        step(engine, float("nan"))
    with pytest.raises(RunFailed, match="diverged"):
        step(engine, float("nan"))
    assert torch.isfinite(parameters(engine)).all()


def test_step_adds_up_losses_and_metrics_of_micro_batches(engine):
    def micro_batch(value):
        loss = engine.model(torch.full((1, 2), value)).sum()
        return StepLoss(loss, {"value": torch.tensor(value)})

    parts = [micro_batch(1.0).loss.item(), micro_batch(2.0).loss.item()]
    metrics = engine.step([lambda: micro_batch(1.0), lambda: micro_batch(2.0)])
    assert metrics["loss"] == pytest.approx(sum(parts))
    assert metrics["value"] == 3.0
    # the gradient of both is (1 + 2, 1 + 2, 1 + 1)
    assert metrics["grad_norm"] == pytest.approx((9 + 9 + 4) ** 0.5)


def test_adamw_warms_up_decays_and_has_eps_1e_5():
    engine = Engine(
        torch.nn.Linear(2, 1), learning_rate=0.1, steps=40, config=Optimizer(warmup_ratio=0.1)
    )
    group = engine.optimizer.param_groups[0]
    assert group["eps"] == 1e-5
    assert group["betas"] == (0.9, 0.95)
    rates = []
    for _ in range(40):
        rates.append(group["lr"])
        step(engine, 1.0)
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert max(rates) == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 36)
    assert group["lr"] == 0.0
