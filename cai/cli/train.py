"""``cai sft``, ``cai reward``, ``cai ppo``, ``cai dpo``: one training stage on your own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.reporter import TerminalReporter

TrainingFile = Annotated[Path, typer.Argument(metavar="FILE", help="The training file (YAML).")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a setting of the file.")
]
AUTO_CLASSES = {
    "sft": "AutoModelForCausalLM",
    "ppo": "AutoModelForCausalLM",
    "dpo": "AutoModelForCausalLM",
    "reward": "AutoModelForSequenceClassification",
}
"""The class of transformers that opens what a command trains."""


def sft(config: TrainingFile, overrides: Overrides = None) -> None:
    """Fine-tune on demonstrations or preferred answers.

    Example: cai sft examples/human_feedback.yaml
    """
    train("sft", config, overrides or [])


def reward(config: TrainingFile, overrides: Overrides = None) -> None:
    """Train a reward model on preferences.

    Starts from what cai sft has trained, if there is any.

    Example: cai reward examples/human_feedback.yaml
    """
    train("reward", config, overrides or [])


def ppo(config: TrainingFile, overrides: Overrides = None) -> None:
    """Optimize a policy against a reward model.

    The reward model is the one that cai reward has trained, or the one that the file names.

    Example: cai ppo examples/human_feedback.yaml
    """
    train("ppo", config, overrides or [])


def dpo(config: TrainingFile, overrides: Overrides = None) -> None:
    """Optimize a policy on preferences.

    Needs no reward model (DPO, arXiv 2305.18290).

    Example: cai dpo examples/human_feedback.yaml
    """
    train("dpo", config, overrides or [])


def train(stage: str, path: Path, overrides: Sequence[str]) -> None:
    """Check the training file, train, and print the metrics and how to open the model.

    Args:
        stage: ``sft``, ``reward``, ``ppo`` or ``dpo``.
        path: The training file.
        overrides: Settings as ``section.key=value``.

    Raises:
        InputError: with every problem of the file and of what it names.
    """
    from cai.pipeline.preflight import check_training

    config = check_training(path, overrides, stage, online=True)
    with TerminalReporter() as reporter:
        reporter.stage(stage, f"{path}, into {path.parent / config.out}")
        from cai.pipeline.standalone import train_standalone  # torch loads from here on

        checkpoint, metrics = train_standalone(stage, config, path.parent, reporter)
        for line in _metric_lines(metrics):
            reporter.info(line)
        reporter.info(f"saved: {checkpoint}")
        opener = f"transformers.{AUTO_CLASSES[stage]}.from_pretrained({str(checkpoint)!r})"
        reporter.info(f"open with: {opener}")


def _metric_lines(metrics: dict[str, Any]) -> list[str]:
    """The metrics that are not 0, and how many rows were left out, by reason."""
    lines = []
    for name, value in metrics.items():
        if name == "left_out":
            lines += [f"left out: {count:,} x {reason}" for reason, count in value.items()]
        elif isinstance(value, int | float) and value:
            number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
            lines.append(f"{name.replace('_', ' ')}: {number}")
    return lines
