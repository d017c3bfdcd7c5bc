"""Models with one number per text (reward) or per token (value): a scalar head on a model's trunk.

They are saved as plain ``AutoModelForSequenceClassification`` folders with one label, so that other
tools read the same reward: the head's output at the last token that is not padding. Those tools
find padding by its token. With the end token as padding they would read one token too early, so the
config names a padding token only where the tokenizer has one of its own.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cai.errors import InputError, Problem
from cai.models.load import Faults, best_device, disable_dropout, load_tokenizer, open_model
from cai.models.packing.layout import PackedBatch
from cai.models.packing.padding import own_padding_id
from cai.quiet import quiet

HEADS = ("score", "classifier")
"""Names that model families give to the layer that computes the score."""


class ScalarModel(NamedTuple):
    """A model with a scalar head.

    Attributes:
        model: The model, of a sequence-classification class with one label.
        tokenizer: Its own tokenizer.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_scalar_model(
    name: str, *, new_head: bool = False, device: torch.device | None = None
) -> ScalarModel:
    """Open a reward model, or grow a new scalar head, in float32 and with dropout off.

    Args:
        name: ``reference``, a folder, or the id of a model on the hub.
        new_head: Replace the head, or grow one on a language model. It starts at N(0, 1/(d+1)), so
            that scores begin with unit scale (lm-human-preferences).
        device: Where to put the model; by default the accelerator, if there is one.

    Raises:
        InputError: If there is no such model, weights are missing, or it has no trained scalar
            head and ``new_head`` is not set.
    """
    tokenizer = load_tokenizer(name)
    model, faults = open_model(
        AutoModelForSequenceClassification, name, num_labels=1, dtype=torch.float32
    )
    if not new_head:
        _check_head(name, faults)
    _without_head(faults).refuse(name)
    model.config.get_text_config().pad_token_id = own_padding_id(tokenizer)
    if new_head:
        weight = head(model).weight
        nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1] + 1))
    disable_dropout(model)
    return ScalarModel(model.to(device or best_device()).eval(), tokenizer)  # type: ignore[arg-type]


def _check_head(name: str, faults: Faults) -> None:
    """Refuse a model whose scalar head the library would initialize at random."""
    for key in filter(_is_of_head, sorted(faults.missing)):
        message = f"it has no trained scalar head ({key} is missing); train one with cai reward"
        raise InputError([Problem(name, f"is not a reward model: {message}")])
    for key in filter(_is_of_head, sorted(faults.mismatched)):
        (labels, *_), _ = faults.mismatched[key]
        message = f"gives {labels} numbers for a text ({key}), not one score"
        raise InputError([Problem(name, f"{message}; choose another reward model")])


def _without_head(faults: Faults) -> Faults:
    """The faults of a model's trunk alone."""
    mismatched = {key: shapes for key, shapes in faults.mismatched.items() if not _is_of_head(key)}
    return Faults(frozenset(key for key in faults.missing if not _is_of_head(key)), mismatched)


def _is_of_head(key: str) -> bool:
    return key.split(".")[0] in HEADS


def head(model: nn.Module) -> nn.Linear:
    """Return the scalar head, whatever the family calls it."""
    layers = (getattr(model, name, None) for name in HEADS)
    found = next((layer for layer in layers if layer is not None), None)
    assert isinstance(found, nn.Linear), f"{type(model).__name__} has no linear head: {HEADS}"
    return found


def token_values(model: nn.Module, packed: PackedBatch) -> Tensor:
    """Compute the value of the state in which each answer token is chosen.

    Returns:
        The head's output at the place before each token, ``[N]``.
    """
    return _head_outputs(model, packed, packed.sources)


def answer_scores(model: nn.Module, packed: PackedBatch) -> Tensor:
    """Score each answer.

    Returns:
        The head's output at the last token of each answer, ``[A]``, normalized by ``reward_mean``
        and ``reward_std`` of the model's config where it has them.
    """
    config: Any = model.config
    mean, std = getattr(config, "reward_mean", 0.0), getattr(config, "reward_std", 1.0)
    return (_head_outputs(model, packed, packed.answer_ends) - mean) / std


@quiet()
def _head_outputs(model: nn.Module, packed: PackedBatch, places: Tensor) -> Tensor:
    trunk: Any = model.base_model
    hidden = trunk(**packed.inputs).last_hidden_state.flatten(0, 1)[places]
    # in bfloat16 scores would be eighths and sixteenths
    with torch.autocast(hidden.device.type, enabled=False):
        outputs: Tensor = head(model)(hidden.float()).squeeze(-1)
    return outputs
