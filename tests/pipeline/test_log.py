"""A training log goes on where a killed training goes on."""

import json

from cai.pipeline.reporter import NullReporter
from cai.pipeline.training_log import training_log


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_of_earlier_steps_stay(tmp_path):
    path = tmp_path / "log.jsonl"
    write = training_log(path, NullReporter())
    for step in (1, 2, 3, 4):
        write({"step": step, "steps": 6, "loss": 1.0})
    path.write_text(path.read_text() + '{"step": 5, "lo')  # the kill came here
    again = training_log(path, NullReporter())
    for step in (3, 4, 5, 6):
        again({"step": step, "steps": 6, "loss": 2.0})
    assert steps(path) == [1, 2, 3, 4, 5, 6] and [
        json.loads(line)["loss"] for line in path.read_text().splitlines()
    ] == [1, 1, 2, 2, 2, 2]
    afresh = training_log(path, NullReporter())
    afresh({"step": 1, "steps": 6, "loss": 3.0})
    assert steps(path) == [1]


def test_ppo_update_is_shown_among_the_updates(tmp_path):
    seen = []

    class Shown(NullReporter):
        def progress(self, done, total, text=""):
            seen.append((done, total, text))

    write = training_log(tmp_path / "log.jsonl", Shown(), every=0)
    write({"update": 4, "num_updates": 20, "steps": 2.0, "score": 0.5})
    assert seen == [(4, 20, "score 0.5")]
