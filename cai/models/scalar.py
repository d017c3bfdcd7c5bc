"""Models with one number per text (reward) or per token (value): a causal LM's trunk under a scalar head.

They are saved as plain ``AutoModelForSequenceClassification`` folders with one label and the padding token in the config,
so that other tools read the same reward: the head's output at the last real token.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from cai.errors import InputError, Problem
from cai.models.load import best_device, disable_dropout, load_tokenizer, resolve
from cai.models.project import positions


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
            resolve(name), num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise InputError([Problem(name, f"no model could be opened: {str(error).splitlines()[0]}")]) from None
    if new_head:
        weight = head(model).weight
        nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1] + 1))
    disable_dropout(model)
    return ScalarModel(model.to(device or best_device()).eval(), tokenizer)  # type: ignore[arg-type]


def head(model: nn.Module) -> nn.Linear:
    """The scalar head, whatever the family calls it."""
    inner: Any = getattr(model, "module", model)
    found = getattr(inner, "score", None) or getattr(inner, "classifier", None)
    assert isinstance(found, nn.Linear), f"{type(inner).__name__} has no linear head named score or classifier"
    return found


def token_values(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The head's output ``[B, T]`` at every token; positions count real tokens only, so padding on either side is alike."""
    inner: Any = getattr(model, "module", model)
    hidden = inner.base_model(input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions(mask_BT)).last_hidden_state
    values: Tensor = head(model)(hidden).squeeze(-1).float()
    return values


def text_scores(model: nn.Module, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The score ``[B]`` of each row: the head's output at its last real token, shifted and scaled as its config says."""
    inner: Any = getattr(model, "module", model)
    values = token_values(model, ids_BT, mask_BT)
    steps = torch.arange(1, ids_BT.shape[1] + 1, device=ids_BT.device)
    last = (mask_BT.long() * steps).argmax(1)
    scores = values[torch.arange(len(ids_BT), device=ids_BT.device), last]
    return (scores - getattr(inner.config, "reward_mean", 0.0)) / getattr(inner.config, "reward_std", 1.0)
