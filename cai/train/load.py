"""Models as a training stage wants them: float32 weights, precision of the passes, checkpointing, adapters."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai.config import Training
from cai.errors import InputError, Problem
from cai.models.heads import Policy, Scalar
from cai.models.load import best_dtype, default_micro_batch_tokens, load_language_model
from cai.models.scalar import load_scalar_model
from cai.train.lora import add_adapters

WIDE = 512
"""Hidden size from which bfloat16 pays on a CPU."""
PROBE_TOKENS = 16
"""Length of the text on which a model is tried when it is opened."""


def load_policy(
    name: str, training: Training, *, value: bool = False
) -> tuple[Policy, PreTrainedTokenizerBase]:
    """A policy to train, with or without a value head."""
    model, tokenizer = load_language_model(name, dtype=torch.float32)
    _prepare(name, model, training)
    return Policy(model, precision_of(training, model), value=value), tokenizer


def load_scalar(
    name: str, training: Training, *, new_head: bool = False
) -> tuple[Scalar, PreTrainedTokenizerBase]:
    """A reward or value model to train."""
    model, tokenizer = load_scalar_model(name, new_head=new_head)
    _prepare(name, model, training)
    return Scalar(model, precision_of(training, model)), tokenizer


def precision_of(training: Training, model: PreTrainedModel) -> torch.dtype:
    """The type that matrix products of forward and backward passes are done in."""
    if training.precision == "auto":
        wide = model.device.type != "cpu" or model.config.get_text_config().hidden_size >= WIDE
        return best_dtype(model.device) if wide else torch.float32
    return torch.bfloat16 if training.precision == "bfloat16" else torch.float32


def micro_batch_tokens_of(training: Training, model: PreTrainedModel) -> int:
    """The most tokens of one pass."""
    return training.micro_batch_tokens or default_micro_batch_tokens(model.device)


def _prepare(name: str, model: PreTrainedModel, training: Training) -> None:
    _check_no_chance(name, model)
    if training.lora_rank:
        add_adapters(model, training)
    if training.gradient_checkpointing:
        _checkpoint(model)


def _checkpoint(model: PreTrainedModel) -> None:
    """Recompute activations in the backward pass, by the installed library's name for it."""
    # this variant works with frozen inputs, DDP and FSDP alike
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


@torch.no_grad()
def _check_no_chance(name: str, model: PreTrainedModel) -> None:
    """Refuse a model that still reads the same tokens differently each time in training mode.

    The log-probabilities of an update would differ from those of its rollout by chance alone.
    """
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.arange(PROBE_TOKENS, device=model.device).unsqueeze(0) % vocabulary
    was_training = model.training
    model.train()
    one, other = (
        model.base_model(input_ids=ids, use_cache=False).last_hidden_state for _ in range(2)
    )
    model.train(was_training)
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3):
        message = "reads the same text differently each time in training, by chance"
        raise InputError([Problem(name, f"{message}; choose another model")])
