"""The model card beside a trained model: what it is, how it was trained, and its metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import ModelCard, ModelCardData

from cai.config import Section, Training
from cai.models.load import resolve
from cai.models.sequence_classes import is_in_library

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


class Kind(NamedTuple):
    """What a stage's checkpoint is.

    Attributes:
        title: Heading of the card.
        summary: One sentence.
        model_class: The class of transformers that opens it.
        task: The hub's name of what it does (``pipeline_tag``).
    """

    title: str
    summary: str
    model_class: str
    task: str


CAUSAL_LM = ("AutoModelForCausalLM", "text-generation")
KINDS = {
    "sft": Kind("SFT policy", "A policy fine-tuned on example answers.", *CAUSAL_LM),
    "reward": Kind(
        "Reward model",
        "A reward model: one score per conversation, read at its last token.",
        "AutoModelForSequenceClassification",
        "text-classification",
    ),
    "ppo": Kind(
        "PPO policy", "A policy optimized against a reward, with a KL penalty.", *CAUSAL_LM
    ),
    "dpo": Kind("DPO policy", "A policy optimized on preferences by DPO.", *CAUSAL_LM),
}


def model_card(
    stage: str, base: str, config: Section, training: Training, metrics: Mapping[str, Any]
) -> str:
    """Write a model card in the format of the Hugging Face hub.

    Args:
        stage: ``sft``, ``reward``, ``ppo`` or ``dpo``.
        base: Name of the model that training started from.
        config: Settings of the stage.
        training: Settings of all training stages.
        metrics: What the stage measured; the numbers among them are shown.

    Returns:
        The text of the ``README.md``.
    """
    kind = KINDS[stage]
    settings = {
        stage: config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            pipeline_tag=kind.task,
            tags=["cai", "constitutional-ai", stage],
            base_model=None if Path(resolve(base)).is_dir() else base,
        ),
        template_path=str(TEMPLATE),
        title=kind.title,
        summary=kind.summary,
        model_class=kind.model_class,
        base_name=_shown(base),
        has_adapters=training.lora_rank is not None and not training.merge_adapters,
        is_reward=stage == "reward",
        is_known=stage != "reward" or is_in_library(base),
        metrics=_rows(metrics),
        settings=json.dumps(settings, indent=2),
    )
    return str(card)


def _shown(base: str) -> str:
    """The base as the card names it: not by where its folder is, so that equal models are equal."""
    folder = Path(base)
    if not folder.is_dir():
        return base
    return f"{folder.parent.name}/{folder.name}" if folder.name == "checkpoint" else folder.name


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each number among the metrics, as the card shows them."""
    return [
        (name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
        for name, value in metrics.items()
        if isinstance(value, int | float)
    ]
