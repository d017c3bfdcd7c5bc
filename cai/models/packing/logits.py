"""Logits only where they are looked at: projecting on the vocabulary is a large part of a step's cost."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai.models.packing.layout import PackedBatch
from cai.quiet import quiet

_plain: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


class AnswerLogits(NamedTuple):
    """What a language model makes of the answers in a forest."""

    hidden: Tensor  # [N, D] last hidden state before each token of the answers
    logits: Tensor  # [N, V] that predict them


@quiet()
def answer_logits(model: PreTrainedModel, packed: PackedBatch) -> AnswerLogits:
    """Read a forest; nothing but the answers' tokens is projected on the vocabulary."""
    if has_plain_head(model):
        hidden = model.base_model(**packed.inputs).last_hidden_state.flatten(0, 1)[packed.before]
        return AnswerLogits(hidden, model.get_output_embeddings()(hidden))
    out = model(**packed.inputs, output_hidden_states=True)
    return AnswerLogits(
        out.hidden_states[-1].flatten(0, 1)[packed.before], out.logits.flatten(0, 1)[packed.before]
    )


def logits_at(model: PreTrainedModel, inputs: dict[str, Any], places: Tensor) -> Tensor:
    """Logits ``[N, V]`` at some places (``row * L + column``) of the batch that a model is called with."""
    if has_plain_head(model):
        logits: Tensor = model.get_output_embeddings()(
            model.base_model(**inputs).last_hidden_state.flatten(0, 1)[places]
        )
        return logits
    length = inputs["input_ids"].shape[1]
    columns, which = (places % length).unique(return_inverse=True)
    kept: Tensor = model(**inputs, logits_to_keep=columns).logits
    return kept[places // length, which]


def next_token_logits(model: PreTrainedModel, packed: PackedBatch) -> Tensor:
    """Logits ``[N, V]`` that predict the answers' tokens."""
    return answer_logits(model, packed).logits


@torch.no_grad()
def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are just the output embeddings times the last hidden state; some families cap or scale them."""
    if model not in _plain:
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        whole = model(input_ids=ids).logits
        apart = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
        _plain[model] = whole.shape == apart.shape and torch.allclose(
            whole, apart, rtol=1e-3, atol=1e-3
        )
    return _plain[model]
