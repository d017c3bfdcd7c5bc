"""The exports of a run, taken as they are by ``load_dataset`` and by TRL's RewardTrainer, DPOTrainer and SFTTrainer.

    pip install trl
    python benchmarks/export_into_trl.py runs/quickstart

Trains each for a few steps on the reference model and prints the losses; there is no mapping code between export and trainer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

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


def main(run: Path) -> None:
    model = str(reference_model())
    tokenizer = AutoTokenizer.from_pretrained(model)
    for form in ("trl", "parquet"):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "cai",
                    "export",
                    str(run),
                    "--to",
                    f"{folder}/data",
                    "--format",
                    form,
                ],
                check=True,
            )
            preferences = load_dataset(
                f"{folder}/data", "preferences", split="train", cache_dir=f"{folder}/cache"
            )
            revisions = load_dataset(
                f"{folder}/data", "revisions", split="train", cache_dir=f"{folder}/cache"
            )
            print(form, preferences.column_names, revisions.column_names)
            scored = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
            trainers = {
                "RewardTrainer": RewardTrainer(
                    model=scored,
                    args=RewardConfig(folder, **SETTINGS),
                    train_dataset=preferences,
                    processing_class=tokenizer,
                ),
                "DPOTrainer": DPOTrainer(
                    model=AutoModelForCausalLM.from_pretrained(model),
                    args=DPOConfig(folder, **SETTINGS),
                    train_dataset=preferences,
                    processing_class=tokenizer,
                ),
                "SFTTrainer": SFTTrainer(
                    model=AutoModelForCausalLM.from_pretrained(model),
                    args=SFTConfig(folder, **SETTINGS),
                    train_dataset=revisions,
                    processing_class=tokenizer,
                ),
            }
            for name, trainer in trainers.items():
                trainer.train()
                print(
                    form,
                    name,
                    [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row],
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
