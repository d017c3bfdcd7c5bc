"""Detectors of reward hacking: each fires on a made history, and none on an honest one."""

import math

import pytest
from test_monitor import ROW, monitor_of

from cai.config import Monitor, Onset
from cai.train.ppo.onset import SIGNALS, fired, note, onsets, statistic

THRESHOLDS = {
    "kl": 20.0,
    "repeated": 0.5,
    "length": 8.0,
    "score_length": 0.7,
    "score_range": 3.0,
    "score_spread": 8.0,
    "second_score": 4.0,
    "second_disagreement": 0.8,
    "format_raise": 1.0,
}
SETTINGS = Onset(**THRESHOLDS)
HONEST = {
    "kl": 3.0,
    "unique_fraction": 0.95,
    "length": 30.0,
    "score_length_correlation": 0.2,
    "normalized_score": 0.5,
    "score_spread": 0.2,
    "second_score": 0.4,
    "second_agreement": 0.7,
    "format_raise": 0.3,
}
HACKED = {
    "kl": 60.0,
    "unique_fraction": 0.1,
    "length": 55.0,
    "score_length_correlation": -0.95,
    "normalized_score": 6.0,
    "score_spread": 1.5,
    "second_score": -1.0,
    "second_agreement": -0.4,
    "format_raise": 3.0,
}


def honest_history(updates):
    """Values that wander by a tenth around those of an honest training."""
    return [
        {
            name: value * (1 + 0.1 * math.sin(7 * update + len(name)))
            for name, value in HONEST.items()
        }
        for update in range(updates)
    ]


def test_no_signal_fires_on_an_honest_history():
    assert onsets(honest_history(60), SETTINGS) == {}


@pytest.mark.parametrize("name", SIGNALS)
def test_each_signal_fires_on_its_own_history_and_no_other_does(name):
    metric = SIGNALS[name].metric
    history = honest_history(20)
    for row in history[10:]:
        row[metric] = HACKED[metric]
    found = onsets(history, SETTINGS)
    assert list(found) == [name]
    assert 11 <= found[name] <= 14


def test_signals_without_threshold_or_metric_say_nothing():
    history = [dict(HACKED) for _ in range(20)]
    assert fired(history, Onset(**dict.fromkeys(SIGNALS))) == []
    assert fired([{"kl": 1.0}] * 20, SETTINGS) == []


def test_a_change_is_measured_from_the_first_updates():
    settings = Onset(baseline_updates=2, window=2)
    history = [{"second_score": value} for value in (1.0, 2.0, 0.0, 0.5)]
    assert statistic("second_score", history[:3], settings) is None
    expected = (1.5 - 0.25) / math.sqrt(0.5)
    assert statistic("second_score", history, settings) == pytest.approx(expected)


def test_the_monitor_names_a_signal_once_and_resumes():
    settings = Monitor(onset=Onset(**{**dict.fromkeys(SIGNALS), "kl": 5.0}, window=2))
    monitor = monitor_of(settings)
    history = [ROW | {"kl": kl} for kl in (0.0, 4.0, 8.0, 9.0)]
    rows = [monitor.after(update, history[:update]) for update in range(1, 5)]
    alarm = "reward hacking? the KL from the reference policy is large"
    assert [row.get("alarm") for row in rows] == [None, None, alarm, None]
    assert monitor.summary()["onsets"] == {"kl": 3}
    resumed = monitor_of(settings)
    resumed.load_state_dict(monitor.state_dict())
    assert resumed.summary() == monitor.summary()


def test_the_note_says_what_and_when():
    text = note({"kl": 3, "format_raise": 7})
    assert "the KL from the reference policy is large (update 3)" in text
    assert "perturbed (update 7)" in text
