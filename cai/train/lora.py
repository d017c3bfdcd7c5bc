"""Low-rank adapters (arXiv 2106.09685) by way of ``peft``: put in, switched off, merged and saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from cai.config import Training
from cai.errors import InputError, Problem


def add_adapters(model: PreTrainedModel, training: Training) -> None:
    """Freeze a model and put adapters into the linear layers of its trunk; a new scalar head stays trainable."""
    peft = _peft()
    trunk = model.base_model
    linear = [
        name for name, module in trunk.named_modules() if isinstance(module, nn.Linear | Conv1D)
    ]
    targets = [
        name
        for name in linear
        if not training.lora_targets or name.rsplit(".", 1)[-1] in training.lora_targets
    ]
    if not targets:
        known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise InputError(
            [
                Problem(
                    "training.lora_targets",
                    f"none of {', '.join(training.lora_targets or ())} is a linear layer; there are {known}",
                )
            ]
        )
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in trunk.modules()),
    )
    head = [
        p for name, p in model.named_parameters() if name.split(".")[0] in ("score", "classifier")
    ]
    prefix = f"{model.base_model_prefix}." if trunk is not model else ""
    config.target_modules = {prefix + name for name in targets}
    peft.inject_adapter_in_model(config, model)
    for parameter in head:
        parameter.requires_grad_(True)


@contextlib.contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Within it a model is what it was before its adapters were put in: the reference policy without a second copy."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, _peft().tuners.tuners_utils.BaseTunerLayer)
    ]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model with adapters as those of the plain model that computes the same."""
    config: Any = getattr(model, "peft_config", {}).get("default")
    if config is None:
        return weights
    scale, found = config.lora_alpha / config.r, dict[str, Tensor]()
    for name, tensor in weights.items():
        if ".lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            layer = name.removesuffix(".base_layer.weight")
            if f"{layer}.lora_A.default.weight" in weights:
                change = (
                    weights[f"{layer}.lora_B.default.weight"]
                    @ weights[f"{layer}.lora_A.default.weight"]
                    * scale
                )
                tensor = tensor + (change.T if config.fan_in_fan_out else change)
        found[name.replace(".base_layer.", ".")] = tensor
    return found


def save_adapters(model: PreTrainedModel, weights: dict[str, Tensor], base: str, out: Path) -> None:
    """Write the adapters alone, as ``PeftModel.from_pretrained(base, out)`` reads them."""
    from safetensors.torch import save_file

    config: Any = getattr(model, "peft_config", {}).get("default")
    if config is None:
        return
    out.mkdir(parents=True)
    adapters = {
        f"base_model.model.{name.replace('.default', '')}": t.contiguous()
        for name, t in weights.items()
        if ".lora_" in name
    }
    save_file(adapters, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config.base_model_name_or_path = base
    config.save_pretrained(out)


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise InputError(
            [Problem("training.lora_rank", "needs peft: pip install 'cai[lora]'")]
        ) from None
    return peft
