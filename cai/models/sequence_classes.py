"""The class of a model with a scalar head, for every family of causal language models.

Most families have one in ``transformers``. For the others it is made here, from the same parts: the
family's trunk and a linear ``score`` layer. Its folder is like any other; only ``Auto...`` classes
do not know the class, so other programs make it in the same way::

    from transformers import AutoConfig
    from cai.models.sequence_classes import sequence_class

    config = AutoConfig.from_pretrained(folder)
    model = sequence_class(config).from_pretrained(folder)

A score is ``model.score`` of the trunk's last hidden state at the last token.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification

from cai.models.load import resolve

UNFILLED = ("falcon_h1",)
"""Families whose trunk has buffers that the library leaves empty in a new class."""


def sequence_class(config: PreTrainedConfig) -> Any:
    """Return the class that opens a model with a scalar head.

    Args:
        config: The model's config.

    Returns:
        ``AutoModelForSequenceClassification`` where it knows the family, else a class made of the
        family's parts.

    Raises:
        ValueError: If the model is neither a sequence classifier nor a causal language model.
    """
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return AutoModelForSequenceClassification
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"{config.model_type} is no causal language model")
    if config.model_type in UNFILLED:
        raise ValueError(f"{config.model_type} has values that are not saved; choose another base")
    return _made_of(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])


@cache
def _made_of(language_model: type[PreTrainedModel]) -> Any:
    """Make the class of a family from that of its language models."""
    family = next(
        kind
        for kind in language_model.__mro__
        if kind is not PreTrainedModel and PreTrainedModel in kind.__bases__
    )
    prefix = language_model.base_model_prefix
    name = language_model.__name__.removesuffix("ForCausalLM") + "ForSequenceClassification"
    members = {"base_model_prefix": prefix, "__module__": __name__}
    return type(name, (GenericForSequenceClassification, family), members)


def is_in_library(name: str) -> bool:
    """Tell whether ``transformers`` has the class of a model with a scalar head.

    Args:
        name: ``reference``, a folder, or the id of a model on the hub; True if it cannot be read.
    """
    try:
        config = AutoConfig.from_pretrained(resolve(name), trust_remote_code=False)
    except (OSError, ValueError):
        return True
    return type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def is_made_here(model: PreTrainedModel) -> bool:
    """Tell whether a model's class is one that ``transformers`` does not have."""
    return type(model).__module__ == __name__
