"""Models with one number per text (reward) or per token (value): a causal LM's trunk under a scalar head.

They are saved as plain ``AutoModelForSequenceClassification`` folders with one label and the padding token in the config,
so that other tools read the same reward: the head's output at the last real token.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from cai.errors import InputError, Problem
from cai.models.forest import Forest
from cai.models.load import best_device, disable_dropout, load_tokenizer, resolve


class ScalarModel(NamedTuple):
    """A trunk with a scalar head, and the tokenizer its texts are read with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_scalar_model(name: str, *, new_head: bool = False, device: torch.device | None = None) -> ScalarModel:
    """Open a reward model, or a language model's trunk under a ``new_head``; float32, dropout off.

    A new head starts at N(0, 1/(d+1)), so that scores begin with unit scale (lm-human-preferences).
    """
    tokenizer = load_tokenizer(name)
    try:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            resolve(name),
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
            dtype=torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError([Problem(name, f"no model could be opened: {str(error).splitlines()[0]}")]) from None
    if new_head:
        weight = head(model).weight
        nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1] + 1))
    disable_dropout(model)
    return ScalarModel(model.to(device or best_device()).eval(), tokenizer)  # type: ignore[arg-type]


def head(model: nn.Module) -> nn.Linear:
    """The scalar head, whatever the family calls it."""
    inner: Any = model
    found = getattr(inner, "score", None) or getattr(inner, "classifier", None)
    assert isinstance(found, nn.Linear), f"{type(inner).__name__} has no linear head named score or classifier"
    return found


def token_values(model: nn.Module, forest: Forest) -> Tensor:
    """The head's output ``[N]`` at the place before each token of the answers: the value of the state in which it is chosen."""
    return _read(model, forest, forest.before)


def answer_scores(model: nn.Module, forest: Forest) -> Tensor:
    """The score ``[A]`` of each answer: the head's output at its last token, shifted and scaled as the model's config says."""
    inner: Any = model
    return (_read(model, forest, forest.ends) - getattr(inner.config, "reward_mean", 0.0)) / getattr(inner.config, "reward_std", 1.0)


def _read(model: nn.Module, forest: Forest, places: Tensor) -> Tensor:
    inner: Any = model
    hidden = inner.base_model(**forest.inputs).last_hidden_state.flatten(0, 1)[places]
    values: Tensor = head(model)(hidden).squeeze(-1).float()
    return values
