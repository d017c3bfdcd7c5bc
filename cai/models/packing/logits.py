"""Project hidden states on the vocabulary only where logits are wanted.

The projection is a large part of the cost of a training step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai.models.packing.layout import PackedBatch
from cai.models.trials import remembered
from cai.quiet import quiet


class AnswerLogits(NamedTuple):
    """Outputs of a language model at the ``N`` sources of a packed batch.

    Attributes:
        hidden: Last hidden states, ``[N, D]``.
        logits: Logits that predict the answers' tokens, ``[N, V]``.
    """

    hidden: Tensor
    logits: Tensor


@quiet()
def answer_logits(model: PreTrainedModel, packed: PackedBatch) -> AnswerLogits:
    """Read a packed batch; only sources of answer tokens are projected on the vocabulary."""
    if has_plain_head(model):
        hidden = model.base_model(**packed.inputs).last_hidden_state
        hidden_N = hidden.flatten(0, 1)[packed.sources]
        return AnswerLogits(hidden_N, output_embeddings(model)(hidden_N))
    with _head_inputs(model) as hidden_RLD:
        logits_RLV = model(**packed.inputs).logits
    hidden_N = hidden_RLD[0].flatten(0, 1)[packed.sources]
    return AnswerLogits(hidden_N, logits_RLV.flatten(0, 1)[packed.sources])


@contextlib.contextmanager
def _head_inputs(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect what reaches the output embeddings while the model reads."""
    inputs: list[Tensor] = []

    def collect(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        del layer
        inputs.append(arguments[0])

    hook = output_embeddings(model).register_forward_pre_hook(collect)
    try:
        yield inputs
    finally:
        hook.remove()


def logits_at(model: PreTrainedModel, inputs: dict[str, Any], places: Tensor) -> Tensor:
    """Compute logits at some places of a batch.

    Args:
        model: The model to read with.
        inputs: Keyword arguments of the model: a batch of ``[R, L]`` tokens.
        places: Indices into the flattened batch (``row * L + column``), ``[N]``.

    Returns:
        Logits, ``[N, V]``.
    """
    if has_plain_head(model):
        hidden = model.base_model(**inputs).last_hidden_state
        logits: Tensor = output_embeddings(model)(hidden.flatten(0, 1)[places])
        return logits
    length = inputs["input_ids"].shape[1]
    columns, column_index = (places % length).unique(return_inverse=True)
    logits_RCV: Tensor = model(**inputs, logits_to_keep=columns).logits
    if logits_RCV.shape[1] != len(columns):  # of a family that keeps all of them
        column_index = places % length
    return logits_RCV[places // length, column_index]


def next_token_logits(model: PreTrainedModel, packed: PackedBatch) -> Tensor:
    """Compute the logits ``[N, V]`` that predict the answers' tokens."""
    return answer_logits(model, packed).logits


def output_embeddings(model: PreTrainedModel) -> nn.Linear:
    """Return the layer that projects hidden states on the vocabulary."""
    return cast("nn.Linear", model.get_output_embeddings())  # type: ignore[no-untyped-call]


@remembered
@torch.no_grad()
def has_plain_head(model: PreTrainedModel) -> bool:
    """Tell whether logits are the output embeddings times the last hidden state, and no more.

    Some families cap or scale their logits. Each model is tried once.
    """
    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits
    hidden = model.base_model(input_ids=ids, use_cache=False)[0]
    head = output_embeddings(model)
    if hidden.shape[-1] != head.in_features:
        return False
    projected = head(hidden)
    return logits.shape == projected.shape and torch.allclose(
        logits, projected, rtol=1e-3, atol=1e-3
    )
