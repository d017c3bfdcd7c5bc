"""Logits only where they are looked at: projecting on the vocabulary is a large part of a step's cost."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

_plain: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


def positions(attention_BL: Tensor) -> Tensor:
    """Position ids that count real tokens only, so that padding on either side moves nothing."""
    return (attention_BL.long().cumsum(1) - 1).clamp(min=0)


def next_token_logits(model: PreTrainedModel, ids_BL: Tensor, attention_BL: Tensor, wanted: Tensor) -> Tensor:
    """Logits ``[N, V]`` that predict the ``N`` wanted tokens, row by row.

    ``wanted`` ``[B, L - 1]`` is True where the token one place further on, ``ids[:, 1:]``, is to be predicted.
    """
    inputs: dict[str, Any] = {
        "input_ids": ids_BL, "attention_mask": attention_BL, "position_ids": positions(attention_BL), "use_cache": False,
    }  # fmt: skip
    if not head_is_plain(model):
        every: Tensor = model(**inputs).logits
        return every[:, :-1][wanted]
    hidden = model.base_model(**inputs).last_hidden_state[:, :-1][wanted]
    logits: Tensor = model.get_output_embeddings()(hidden)
    return logits


@torch.no_grad()
def head_is_plain(model: PreTrainedModel) -> bool:
    """Whether the logits are just the output embeddings times the last hidden state; some families cap or scale them."""
    if model not in _plain:
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        whole = model(input_ids=ids).logits
        apart = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
        _plain[model] = whole.shape == apart.shape and torch.allclose(whole, apart, rtol=1e-3, atol=1e-3)
    return _plain[model]
