"""``cai demo``: its run file and its sentences; ``tests/test_quickstart.py`` runs it."""

import io

from rich.console import Console

from cai.cli.demo import SENTENCES, DemoReporter
from cai.config import load_config
from cai.pipeline.stages import plan_stages


def test_every_stage_of_the_demo_has_a_sentence(root):
    stages = [stage.name for stage in plan_stages(load_config(root / "examples/demo.yaml"))]
    assert [*SENTENCES] == stages
    assert all(len(sentence) <= 72 for sentence in SENTENCES.values())


def test_sentences_are_printed_below_their_stage():
    screen = io.StringIO()
    DemoReporter(Console(file=screen, width=80)).stage("reward", "train the reward model")
    assert screen.getvalue().splitlines() == [
        "reward     train the reward model",
        "        A reward model learns to predict the labels.",
    ]
