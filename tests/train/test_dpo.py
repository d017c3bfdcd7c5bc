"""DPO: the sums it trains on, the optimum it comes to, and what it learns on a tiny model."""

import math

import pytest
import torch
from toy_data import preferences

from cai.config import DPO, Training
from cai.errors import InputError
from cai.models.packing.layout import PromptGroup
from cai.rl.losses import dpo_loss, ipo_loss
from cai.train.answers import answer_logprobs
from cai.train.dpo import train_dpo
from cai.train.held_out import is_held_out
from cai.train.load import load_policy
from cai.train.options import TrainerOptions
from cai.train.reward.dataset import PairLabel, PreferenceGroup, smoothed


def groups():
    return [
        PreferenceGroup("a", PromptGroup([9, 8, 7], [[6, 5, 1], [4, 1]]), [PairLabel(0, 1, 1.0)]),
        PreferenceGroup("b", PromptGroup([3], [[2, 1], [7, 7, 7, 1]]), [PairLabel(0, 1, 0.0)]),
    ]


def test_answer_logprobs_are_sums_over_the_answer(tiny):
    policy, tokenizer = load_policy(tiny, Training())
    for mean in (False, True):
        packed = [group.prompt_group for group in groups()]
        found = answer_logprobs(policy, packed, tokenizer.pad_token_id, mean=mean)
        for values, group in zip(found, groups(), strict=True):
            for value, answer in zip(values, group.prompt_group.answers, strict=True):
                with torch.no_grad():
                    logprobs = (
                        policy.model(torch.tensor([group.prompt_group.prompt + answer]))
                        .logits[0]
                        .log_softmax(-1)
                    )
                start = len(group.prompt_group.prompt) - 1
                total = sum(logprobs[start + i, token].item() for i, token in enumerate(answer))
                assert value.item() == pytest.approx(
                    total / len(answer) if mean else total, abs=1e-3
                )


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_dpo_of_a_known_reward_finds_the_optimum(beta):
    """With Bradley-Terry labels of a reward r, the minimum is pi_ref * exp(r / beta) (arXiv 2305.18290, equations 4 and 7)."""
    torch.manual_seed(0)
    reference = torch.randn(12, dtype=torch.float64).log_softmax(-1)
    reward = torch.randn(12, dtype=torch.float64) * beta * 2
    best = (reference + reward / beta).softmax(-1)
    one, other = (
        grid.flatten() for grid in torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    )
    labels = torch.sigmoid(reward[one] - reward[other])

    def fitted(labels):
        logits = reference.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [logits], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-10
        )

        def closure():
            optimizer.zero_grad()
            logp = logits.log_softmax(-1)
            loss = dpo_loss(
                logp[one], logp[other], reference[one], reference[other], labels, beta
            ).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        return logits.detach().softmax(-1)

    assert 0.5 * (fitted(labels) - best).abs().sum() < 0.03
    assert 0.5 * (fitted(1 - labels) - best).abs().sum() > 0.3  # the labels the wrong way round


def test_ipo_pulls_the_difference_to_its_target():
    zero, p = torch.zeros(1), torch.ones(1)
    at = {d: ipo_loss(torch.tensor([d]), zero, zero, zero, p, 0.1).item() for d in (0.0, 5.0, 10.0)}
    assert at[5.0] == 0.0 and at[0.0] == at[10.0] == pytest.approx(25.0)
    assert ipo_loss(
        torch.tensor([3.0]), zero, zero, zero, torch.tensor([0.5]), 0.1
    ).item() == pytest.approx((2**2 + 8**2) / 2)


def test_label_smoothing_moves_labels_toward_one_half():
    assert (
        smoothed(1.0, 0.1) == pytest.approx(0.9)
        and smoothed(0.5, 0.3) == 0.5
        and smoothed(0.2, 0.0) == 0.2
    )


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_dpo_learns_which_answer_is_better(tiny, tmp_path, loss):
    config = DPO(epochs=6, batch_size=8, learning_rate=2e-3, beta=0.1, loss=loss)
    rows = []
    metrics = train_dpo(
        preferences(), tiny, tmp_path / loss, config, options=TrainerOptions(log=rows.append)
    )
    start = math.log(2) if loss == "dpo" else 25.0
    assert rows[0]["loss"] == pytest.approx(
        start, rel=1e-3
    )  # policy and reference are one at the start
    assert metrics["loss_last"] < 0.5 * start and metrics["margin_last"] > 0.1
    again = train_dpo(preferences(), tiny, tmp_path / f"{loss}-again", config)
    assert again == metrics


def test_dpo_says_why_there_is_nothing_to_train_on(tiny, tmp_path):
    with pytest.raises(InputError, match="no labeled pair"):
        train_dpo([], tiny, tmp_path / "x", DPO(epochs=1))


def test_held_out_labels_are_measured_and_not_learned(tiny, tmp_path):
    config = DPO(epochs=6, batch_size=8, learning_rate=2e-3, eval_fraction=0.3)
    labels = preferences()
    metrics = train_dpo(labels, tiny, tmp_path / "a", config)
    held_out = [p for p in labels if is_held_out(p.comparison.prompt.id, 0.3, 0)]
    assert metrics["eval_pairs"] == len(held_out) == len(labels) - metrics["pairs"]
    assert metrics["eval_accuracy"] == 1.0 and metrics["eval_loss"] < 0.5 * math.log(2)
    # a near tie has a loss, but no right answer
    ties = [p.model_copy(update={"p_first": 0.5}) if p in held_out else p for p in labels]
    tied = train_dpo(ties, tiny, tmp_path / "b", config)
    assert tied["eval_loss"] > math.log(2) and "eval_accuracy" not in tied
    everything = config.model_copy(update={"eval_fraction": 0.0})
    alone = train_dpo([p for p in labels if p not in held_out], tiny, tmp_path / "c", everything)
    assert alone.items() <= metrics.items() and "eval_loss" not in alone


def test_each_step_logs_accuracy_where_a_label_is_clear(tiny, tmp_path):
    rows = []
    config = DPO(epochs=6, batch_size=8, learning_rate=2e-3)
    options = TrainerOptions(log=rows.append)
    metrics = train_dpo(preferences(p_first=0.8), tiny, tmp_path / "a", config, options=options)
    assert rows[-1]["accuracy"] == metrics["accuracy_last"] == 1.0
    rows.clear()
    config = config.model_copy(update={"epochs": 1})
    metrics = train_dpo(preferences(p_first=0.55), tiny, tmp_path / "b", config, options=options)
    assert "accuracy" not in rows[-1] and "accuracy_last" not in metrics


def test_a_margin_is_a_lead_to_be_reached(tiny, tmp_path):
    labels = [p.model_copy(update={"margin": 1.0}) for p in preferences()]
    rows = []
    config = DPO(epochs=1, batch_size=64, learning_rate=1e-3)
    options = TrainerOptions(log=rows.append)
    train_dpo(labels, tiny, tmp_path / "a", config, options=options)
    assert rows[0]["loss"] == pytest.approx(math.log(1 + math.e), rel=1e-4)
    with pytest.raises(InputError, match="ipo takes no margins, but 36 labels have one"):
        train_dpo(labels, tiny, tmp_path / "b", config.model_copy(update={"loss": "ipo"}))
