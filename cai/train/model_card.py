"""The card that lies beside a trained model: what it is, what it was made from and how, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cai.config import Section, Training

STAGES = {
    "sft": (
        "AutoModelForCausalLM",
        "text-generation",
        "A policy fine-tuned on answers to imitate.",
    ),
    "reward": (
        "AutoModelForSequenceClassification",
        "text-classification",
        "A reward model: one score per conversation, read at its last token.",
    ),
    "ppo": (
        "AutoModelForCausalLM",
        "text-generation",
        "A policy optimised against a reward under a KL penalty.",
    ),
    "dpo": (
        "AutoModelForCausalLM",
        "text-generation",
        "A policy optimised on preferences, without a reward model (DPO).",
    ),
}


def model_card(
    stage: str, base: str, config: Section, training: Training, metrics: Mapping[str, Any]
) -> str:
    """The text of a ``README.md`` in the form of the model hubs."""
    opens, task, what = STAGES[stage]
    measured = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    adapters = (
        "\n\nTrained by adapters, which are merged here; by themselves they stand in `adapter/`."
        if training.lora_rank
        else ""
    )
    normalised = (
        "\n\nA score is the head's output less `reward_mean`, over `reward_std`, both in `config.json`; by itself it means nothing, only"
        " differences between answers to one prompt do."
    )
    return f"""---
library_name: transformers
pipeline_tag: {task}
tags: [cai, constitutional-ai, {stage}]
---
{what} Made by `cai` from `{base}`.{adapters}{normalised if stage == "reward" else ""}

```python
from transformers import {opens}
model = {opens}.from_pretrained("this folder")
```

## Measured

{_table(measured)}

## Settings

```json
{json.dumps({stage: config.model_dump(mode="json"), "training": training.model_dump(mode="json")}, indent=2)}
```
"""


def _table(metrics: Mapping[str, float]) -> str:
    rows = [
        f"| {name.replace('_', ' ')} | {value:.4g} |"
        if isinstance(value, float)
        else f"| {name.replace('_', ' ')} | {value} |"
        for name, value in metrics.items()
    ]
    return "\n".join(["| | |", "|---|---|", *rows])
