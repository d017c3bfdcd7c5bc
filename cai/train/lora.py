"""Low-rank adapters (LoRA, arXiv 2106.09685) by way of ``peft``: add, switch off, merge, save."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from cai.config import Training
from cai.errors import InputError, Problem
from cai.models.adapters import HEADS
from cai.models.load import resolve

ADAPTER = "default"
"""peft's name for an adapter that was given none."""


def add_adapters(model: PreTrainedModel, training: Training) -> None:
    """Freeze a model, except for a scalar head, and add adapters to the linear layers of its trunk.

    Args:
        model: The model; it is changed in place.
        training: ``lora_rank``, ``lora_alpha`` and ``lora_targets``.

    Raises:
        InputError: If peft is not installed, or no layer has one of the wanted names.
    """
    peft = _peft()
    trunk: nn.Module = model.base_model
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        target_modules=_target_modules(model, trunk, training.lora_targets),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in trunk.modules()),
    )
    head = [
        parameter for name, parameter in model.named_parameters() if name.split(".")[0] in HEADS
    ]
    peft.inject_adapter_in_model(config, model)
    for parameter in head:
        parameter.requires_grad_(True)


def _target_modules(
    model: PreTrainedModel, trunk: nn.Module, wanted: tuple[str, ...] | None
) -> set[str]:
    """Name the linear layers of a trunk, all or those wanted, as modules of the whole model."""
    linear = [
        name for name, module in trunk.named_modules() if isinstance(module, nn.Linear | Conv1D)
    ]
    targets = [name for name in linear if not wanted or _last(name) in wanted]
    if not targets:
        known = ", ".join(sorted({_last(name) for name in linear}))
        message = f"none of {', '.join(wanted or ())} is a linear layer; there are {known}"
        raise InputError([Problem("training.lora_targets", message)])
    prefix = "" if trunk is model else f"{model.base_model_prefix}."
    return {prefix + name for name in targets}


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


@contextlib.contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Switch a model's adapters off meanwhile.

    It then computes what it did before training: a reference policy without a second copy.
    """
    kind = _peft().tuners.tuners_utils.BaseTunerLayer
    layers: list[Any] = [module for module in model.modules() if isinstance(module, kind)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merge_adapters(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Merge adapters into the weights they adapt.

    peft merges in place. That would change the model in the middle of training, and a process that
    holds only shards of the weights could not do it. So this works on gathered weights.

    Args:
        model: The model, with or without adapters.
        weights: All its weights, by name.

    Returns:
        The weights of the plain model that computes the same.
    """
    if not has_adapters(model):
        return weights
    merged = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in weights.items()
        if ".lora_" not in name
    }
    for name, layer in model.named_modules():
        if isinstance(layer, _peft().tuners.lora.LoraLayer):
            adapter: Any = layer
            change = (
                weights[f"{name}.lora_B.{ADAPTER}.weight"]
                @ weights[f"{name}.lora_A.{ADAPTER}.weight"]
                * adapter.scaling[ADAPTER]
            )
            # not in place: on one process these are the very weights that are being trained
            weight = merged[f"{name}.weight"]
            merged[f"{name}.weight"] = weight + (change.T if adapter.fan_in_fan_out else change)
    return merged


def save_adapters(model: PreTrainedModel, weights: dict[str, Tensor], base: str, out: Path) -> None:
    """Write a model's adapters alone, as ``PeftModel.from_pretrained(base, out)`` reads them.

    The head of a reward model goes with them.

    Args:
        model: The model, which has adapters.
        weights: All its weights, by name.
        base: Name of the model that the adapters belong to.
        out: The folder.
    """
    from safetensors.torch import save_file

    peft = _peft()
    tensors = dict(
        peft.get_peft_model_state_dict(
            model, state_dict=weights, adapter_name=ADAPTER, save_embedding_layers=False
        )
    )
    heads = {name: tensor for name, tensor in weights.items() if name.split(".")[0] in HEADS}
    tensors = {
        f"base_model.model.{name}": tensor.contiguous()
        for name, tensor in (tensors | heads).items()
    }
    config: Any = copy.copy(model.peft_config[ADAPTER])
    config.base_model_name_or_path = _findable(base)
    config.modules_to_save = sorted({name.split(".")[0] for name in heads}) or None
    config.inference_mode = True
    save_file(tensors, out / peft.utils.SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    config.save_pretrained(out)


def _findable(base: str) -> str:
    """Name a model so that other tools find it: a folder here by its full path."""
    folder = resolve(base)
    return str(Path(folder).resolve()) if Path(folder).is_dir() else folder


def has_adapters(model: PreTrainedModel) -> bool:
    """Tell whether a model is trained by adapters."""
    return ADAPTER in getattr(model, "peft_config", {})


def _peft() -> Any:
    """Import peft, which only the ``lora`` extra installs."""
    try:
        import peft
    except ImportError:
        message = "needs peft: pip install 'cai[lora]'"
        raise InputError([Problem("training.lora_rank", message)]) from None
    return peft
