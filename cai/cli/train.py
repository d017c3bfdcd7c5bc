"""``cai sft``, ``cai reward``, ``cai ppo``, ``cai dpo``: one training stage on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai.cli.screen import TerminalScreen

OPENS = {
    "sft": "AutoModelForCausalLM", "ppo": "AutoModelForCausalLM", "dpo": "AutoModelForCausalLM", "reward": "AutoModelForSequenceClassification",
}  # fmt: skip


def train_stage(stage: str, path: Path, settings: Sequence[str]) -> None:
    """Check the file, do the stage, and say what came of it, where it is and how to open it."""
    from cai.pipeline.preflight import check_training

    config = check_training(path, settings, stage, online=True)
    screen = TerminalScreen()
    screen.stage(stage, f"{path}, into {path.parent / config.out}")
    from cai.pipeline.alone import train_alone  # torch and transformers load from here on

    checkpoint, metrics = train_alone(stage, config, path.parent, screen)
    for name, value in metrics.items():
        if name == "left_out":
            for reason, count in value.items():
                screen.note(f"left out: {count:,} x {reason}")
        elif isinstance(value, int | float):
            screen.note(f"{name.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')}: {value:.4g}")
    screen.note(f"saved: {checkpoint}")
    screen.note(f"open with: transformers.{OPENS[stage]}.from_pretrained({str(checkpoint)!r})")
