"""Reward models learn what the labels say; ensembles; a bias toward length is kept out."""

import json
import math

import pytest
import torch
from toy_data import BAD, GOOD, PROMPTS, preferences

from cai.config import Reward, RewardEnsemble
from cai.errors import InputError
from cai.models.scalar import load_scalar_model
from cai.records import Comparison, Preference, Prompt
from cai.train.ppo.rewards import Ensemble, ensemble_paths, reward_scorer
from cai.train.reward.scoring import score_texts
from cai.train.reward.trainer import train_reward

LONG = " Then check the boat and the letter and the lamp twice."


def difference(folder, first, second, prompt=PROMPTS[0]):
    """By how much the head's output for one answer exceeds that for another."""
    scalar = load_scalar_model(str(folder))
    scores = score_texts(scalar, [(prompt, first), (prompt, second)])
    return float(scores[0] - scores[1]) * scalar.model.config.reward_std


def all_scores(folder):
    items = [(prompt, text) for prompt in PROMPTS for text in (GOOD, BAD)]
    return score_texts(load_scalar_model(str(folder)), items)


def test_reward_model_learns_hard_labels(tiny, tmp_path):
    config = Reward(epochs=3, batch_size=8, learning_rate=5e-3, eval_fraction=0.2)
    metrics = train_reward(preferences(), tiny, tmp_path / "r", config)
    assert metrics["eval_pairs"] > 0
    assert metrics["eval_accuracy"] == 1.0
    assert difference(tmp_path / "r", GOOD, BAD, Prompt.of("Paint the roof.")) > 0
    scores = all_scores(tmp_path / "r")
    assert abs(scores.mean()) < 0.2
    assert abs(scores.std() - 1) < 0.2


def test_reward_model_learns_soft_labels_as_log_odds(tiny, tmp_path):
    config = Reward(epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0)
    train_reward(preferences(0.7), tiny, tmp_path / "r", config)
    lead = difference(tmp_path / "r", GOOD, BAD)
    assert lead == pytest.approx(math.log(0.7 / 0.3), abs=0.1)


def test_label_smoothing_ends_at_the_smoothed_odds(tiny, tmp_path):
    config = Reward(
        epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0, label_smoothing=0.2
    )
    train_reward(preferences(), tiny, tmp_path / "r", config)
    lead = difference(tmp_path / "r", GOOD, BAD)
    assert lead == pytest.approx(math.log(0.8 / 0.2), abs=0.15)


def test_reward_model_from_a_reward_model_is_normalized(tiny, tmp_path):
    """The normalization of the base has no effect on the new scores, nor on training."""
    config = Reward(epochs=3, batch_size=8, learning_rate=5e-3, eval_fraction=0.0)
    train_reward(preferences(), tiny, tmp_path / "first", config)
    path = tmp_path / "first/config.json"
    changed = json.loads(path.read_text()) | {"reward_mean": 5.0, "reward_std": 4.0}
    path.write_text(json.dumps(changed))
    longer = config.model_copy(update={"epochs": 12})
    train_reward(preferences(0.7), tmp_path / "first", tmp_path / "second", longer)
    scores = all_scores(tmp_path / "second")
    assert scores.mean() == pytest.approx(0, abs=0.01)
    assert scores.std() == pytest.approx(1, abs=0.01)
    lead = difference(tmp_path / "second", GOOD, BAD)
    assert lead == pytest.approx(math.log(0.7 / 0.3), abs=0.15)


def test_reward_model_ignores_the_source_of_labels(tiny, tmp_path):
    for source in ("ai", "human"):
        train_reward(preferences(source=source), tiny, tmp_path / source, Reward(batch_size=8))
    weights = [(tmp_path / source / "model.safetensors").read_bytes() for source in ("ai", "human")]
    assert weights[0] == weights[1]


def test_unlabeled_preferences_are_counted_not_learned(tiny, tmp_path):
    unscored = Preference(
        id="u", comparison=Comparison.of(PROMPTS[0], BAD, GOOD), status="unscored", source="ai"
    )
    config = Reward(batch_size=8, eval_fraction=0.0)
    metrics = train_reward([*preferences(), unscored], tiny, tmp_path / "r", config)
    assert metrics["dropped_unlabeled"] == 1
    assert metrics["pairs"] == len(PROMPTS)


def test_reward_says_why_there_is_nothing_to_train_on(tiny, tmp_path):
    with pytest.raises(InputError, match=r"no labeled pair .*: there are no preferences"):
        train_reward([], tiny, tmp_path / "a", Reward())
    with pytest.raises(InputError, match=r"no labeled pair .*: 36 too long"):
        train_reward(preferences(), tiny, tmp_path / "a", Reward(max_length=5))
    with pytest.raises(InputError, match=r"no labeled pair .*: \d+ near ties"):
        train_reward(preferences(0.6), tiny, tmp_path / "a", Reward(min_margin=0.3))
    with pytest.raises(InputError, match="all labels are one half"):
        train_reward(preferences(0.5), tiny, tmp_path / "a", Reward())


# -- length control --------------------------------------------------------------------------


def long_and_short(label):
    """Pairs of a polite and a rude answer, of which one is much longer."""
    rows = []
    for number, prompt in enumerate(PROMPTS * 3):
        polite, rude = (GOOD, BAD) if number % 2 else ("I am glad to help you.", "You fool.")
        first, second = (polite, rude + LONG) if number % 3 else (polite + LONG, rude)
        rows.append(
            Preference(
                id=str(number),
                comparison=Comparison.of(prompt, first, second),
                p_first=label(number),
                source="x",
            )
        )
    return rows


def test_length_control_keeps_length_out_of_the_score(tiny, tmp_path):
    # politeness is worth log-odds of 1, eleven more words are worth 2
    def label(number):
        lead = 1 - 2 if number % 3 else 1 + 2
        return 1 / (1 + math.exp(-lead))

    gain = {}
    for control in (False, True):
        config = Reward(
            epochs=12, batch_size=8, learning_rate=5e-3, eval_fraction=0.0, length_control=control
        )
        out = tmp_path / str(control)
        metrics = train_reward(long_and_short(label), tiny, out, config)
        assert ("length_coefficient" in metrics) == control
        gain[control] = difference(out, BAD + LONG, BAD, PROMPTS[3])
    assert metrics["length_coefficient"] > 0
    assert gain[True] < 0.6 * gain[False]


# -- ensembles -------------------------------------------------------------------------------


def test_ensemble_members_differ_and_are_combined(tiny, tmp_path):
    config = Reward(
        batch_size=8,
        learning_rate=2e-3,
        epochs=2,
        eval_fraction=0.3,
        ensemble=RewardEnsemble(size=3),
    )
    out = str(tmp_path / "r")
    metrics = train_reward(preferences(), tiny, out, config)
    assert {"eval_accuracy", "eval_accuracy_1", "eval_accuracy_2"} < set(metrics)
    assert len(ensemble_paths(out)) == 3
    assert not list(tmp_path.glob("r.member-*"))
    prompts, answers = [[5, 6, 7]] * 2, [[8, 9], [10, 11, 12]]
    mean = reward_scorer(out)
    assert isinstance(mean, Ensemble)
    each = torch.stack([member(prompts, answers) for member in mean.members])
    assert not torch.allclose(each[1], each[2])
    deviation = each.std(0, unbiased=False)
    assert torch.allclose(mean(prompts, answers), each.mean(0))
    assert mean.spread == pytest.approx(float(deviation.mean()))
    assert torch.equal(reward_scorer(out, "min")(prompts, answers), each.amin(0))
    lower_confidence = reward_scorer(out, "lower_confidence")(prompts, answers)
    assert torch.allclose(lower_confidence, each.mean(0) - deviation)


def test_ensemble_without_held_out_labels_has_no_accuracy(tiny, tmp_path):
    config = Reward(batch_size=8, eval_fraction=0.0, ensemble=RewardEnsemble(size=2))
    metrics = train_reward(preferences()[:4], tiny, tmp_path / "r", config)
    assert not any(name.startswith("eval_accuracy") for name in metrics)
    assert (tmp_path / "r/member-1/model.safetensors").is_file()
