"""``cai sft``, ``cai reward``, ``cai ppo``, ``cai dpo``: one training stage on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai.cli.reporter import TerminalReporter

OPENS = {
    "sft": "AutoModelForCausalLM",
    "ppo": "AutoModelForCausalLM",
    "dpo": "AutoModelForCausalLM",
    "reward": "AutoModelForSequenceClassification",
}


def train_stage(stage: str, path: Path, settings: Sequence[str]) -> None:
    """Check the file, do the stage, and say what came of it, where it is and how to open it."""
    from cai.pipeline.preflight import check_training

    config = check_training(path, settings, stage, online=True)
    reporter = TerminalReporter()
    reporter.stage(stage, f"{path}, into {path.parent / config.out}")
    from cai.pipeline.standalone import train_standalone  # torch and transformers load from here on

    checkpoint, metrics = train_standalone(stage, config, path.parent, reporter)
    for name, value in metrics.items():
        if name == "left_out":
            for reason, count in value.items():
                reporter.info(f"left out: {count:,} x {reason}")
        elif isinstance(value, int | float):
            reporter.info(
                f"{name.replace('_', ' ')}: {value:,}"
                if isinstance(value, int)
                else f"{name.replace('_', ' ')}: {value:.4g}"
            )
    reporter.info(f"saved: {checkpoint}")
    reporter.info(f"open with: transformers.{OPENS[stage]}.from_pretrained({str(checkpoint)!r})")
