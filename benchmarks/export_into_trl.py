"""Train TRL's RewardTrainer, DPOTrainer and SFTTrainer on the exports of a run.

    pip install trl
    python benchmarks/export_into_trl.py runs/quickstart

The exports are read by ``load_dataset`` and passed to the trainers as they are, without any mapping
code. Each trainer takes a few steps on the reference model; prints the losses.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cai.shipped import reference_model

SETTINGS = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "logging_steps": 2,
    "report_to": [],
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
}


def export(run: Path, out: str, file_format: str) -> None:
    """Export the datasets of a run."""
    command = [sys.executable, "-m", "cai", "export", str(run)]
    command += ["--to", out, "--format", file_format]
    completed = subprocess.run(command, check=False)
    if completed.returncode:
        sys.exit(completed.returncode)  # the command has printed why


def make_trainers(preferences: Any, revisions: Any, out: str) -> list[Any]:
    """Return a trainer of each kind, with the reference model."""
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    model = str(reference_model())
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        RewardTrainer(
            model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=1),
            args=RewardConfig(out, **SETTINGS),
            train_dataset=preferences,
            processing_class=tokenizer,
        ),
        DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=DPOConfig(out, **SETTINGS),
            train_dataset=preferences,
            processing_class=tokenizer,
        ),
        SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model),
            args=SFTConfig(out, **SETTINGS),
            train_dataset=revisions,
            processing_class=tokenizer,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    options = parser.parse_args()
    from datasets import load_dataset

    for file_format in ("trl", "parquet"):
        with tempfile.TemporaryDirectory() as folder:
            data, cache = f"{folder}/data", f"{folder}/cache"
            export(options.run, data, file_format)
            preferences = load_dataset(data, "preferences", split="train", cache_dir=cache)
            revisions = load_dataset(data, "revisions", split="train", cache_dir=cache)
            print(file_format, preferences.column_names, revisions.column_names)
            for trainer in make_trainers(preferences, revisions, folder):
                trainer.train()
                losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
                print(file_format, type(trainer).__name__, [round(loss, 4) for loss in losses])


if __name__ == "__main__":
    main()
