"""Models that the benchmarks train."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
)

from cai.models.scalar import load_scalar_model
from cai.shipped import reference_model

SHAPES = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
    },
}
"""Configurations by name, besides ``reference``, the shape of the shipped model."""


def load_shape(shape: str) -> PretrainedConfig:
    """Return the configuration of a shape."""
    if shape == "reference":
        return AutoConfig.from_pretrained(reference_model())
    return LlamaConfig(**SHAPES[shape])


def save_model(shape: str, folder: Path) -> str:
    """Save a model of a shape with the reference tokenizer, and return its folder.

    The reference model keeps its weights; models of other shapes get random ones.
    """
    tokenizer = AutoTokenizer.from_pretrained(reference_model())
    if shape == "reference":
        model = LlamaForCausalLM.from_pretrained(reference_model(), dtype=torch.float32)
    else:
        torch.manual_seed(0)
        config = LlamaConfig(
            **SHAPES[shape],
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_reward_model(model: str) -> str:
    """Save a reward model with a random head beside the model, once, and return its folder."""
    folder = Path(model).with_name("reward_model")
    if not folder.is_dir():
        torch.manual_seed(1)
        scalar = load_scalar_model(model, new_head=True)
        scalar.model.save_pretrained(folder)
        scalar.tokenizer.save_pretrained(folder)
    return str(folder)
