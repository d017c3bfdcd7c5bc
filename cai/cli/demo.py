"""``cai demo``: the whole method on a small scale, with a sentence for every step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai import shipped
from cai.cli.folders import RUNS
from cai.cli.reporter import TerminalReporter
from cai.cli.run import run_pipeline

SENTENCES = {
    "prompts": "Prompts that invite harm, and prompts that should simply be answered.",
    "sample": "A small model that was only ever taught to be helpful answers all of them.",
    "revise": "It criticizes its answers by principles of the constitution, and rewrites them.",
    "sft": "It is trained on the rewritten answers. The result is called SL-CAI.",
    "compare": "The trained model answers each prompt again, several times.",
    "judge": "A judge, the first model again, labels the better of two answers by principle.",
    "audit": "Labels are checked for bias and chance before anything is trained on them.",
    "reward": "A reward model learns to predict the labels.",
    "ppo": "PPO raises the reward of the policy and keeps it close to SL-CAI. "
    "The result is called RL-CAI.",
    "evaluate": "All policies answer prompts that none of them was trained on.",
}


class DemoReporter(TerminalReporter):
    """Prints what each stage is for."""

    def stage(self, name: str, title: str) -> None:
        """Print the header of a stage and a sentence about it."""
        super().stage(name, title)
        self.info(SENTENCES[name])


def demo(
    folder: Annotated[Path, typer.Option("--run", help="Folder of the run.")] = RUNS / "demo",
) -> None:
    """Run the whole method on a small scale, step by step.

    Needs no network and takes about a minute on two CPU cores: the code of cai run, with fewer
    prompts and shorter training. The reference model only knows its own small world.

    Example: cai demo
    """
    run_pipeline(shipped.folder("examples") / "demo.yaml", folder, reporter=DemoReporter())
