"""Folders that hold adapters (LoRA) instead of a whole model: their base, and how to open them.

The base of adapters may be a folder of adapters itself: a policy trained on from another one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.errors import InputError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
NORMALIZATION = ("reward_mean", "reward_std", "reward_chat_format")
"""What the config of a reward model says beside the config of its base."""
HEADS = ("score", "classifier")
"""Names that model families give to the layer that computes the score."""
_PREFIX = "base_model.model."


def base_of(folder: str) -> str | None:
    """Return the name of the model that a folder's adapters belong to.

    Args:
        folder: A model's folder or hub id.

    Returns:
        The name of the base; None if the folder holds no adapters, or a whole model beside them.

    Raises:
        InputError: If the folder does not say which model its adapters belong to.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file() or any(path.glob("model*.safetensors*")):
        return None
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        base = str(config["base_model_name_or_path"] or "")
    except (OSError, ValueError, KeyError, TypeError):
        base = ""
    if not base:
        message = "does not name the model that its adapters belong to (base_model_name_or_path)"
        raise InputError([Problem(str(path / CONFIG), message)])
    beside = path / base
    return str(beside) if not Path(base).exists() and beside.is_dir() else base


def apply_adapters(model: PreTrainedModel, folder: str) -> PreTrainedModel:
    """Merge a folder's adapters into the model that they belong to.

    Args:
        model: The base, which is changed.
        folder: The folder with the adapters.

    Returns:
        The plain model that computes what base and adapters compute.

    Raises:
        InputError: If peft is not installed, or the adapters do not fit.
    """
    try:
        from peft import PeftModel
    except ImportError:
        message = "holds adapters, which need peft: pip install 'cai[lora]'"
        raise InputError([Problem(folder, message)]) from None
    try:
        adapted: Any = PeftModel.from_pretrained(model, folder)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError([Problem(folder, f"the adapters do not fit: {reason}")]) from None
    merged: PreTrainedModel = adapted.merge_and_unload()
    config = Path(folder) / "config.json"
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        for name in NORMALIZATION:
            if name in values:
                setattr(merged.config, name, values[name])
    return merged


def adapted_weights(folder: str) -> frozenset[str]:
    """Name the weights that a folder of adapters holds whole, such as a reward model's head."""
    from safetensors import safe_open

    with safe_open(Path(folder) / WEIGHTS, "pt") as file:
        names = [name.removeprefix(_PREFIX) for name in file.keys()]  # noqa: SIM118 (no mapping)
    return frozenset(name for name in names if ".lora_" not in name)


def adapted_labels(folder: str) -> int | None:
    """Return how many numbers the head that a folder of adapters brings gives for a text.

    Returns:
        The number; None if the folder brings no such head.
    """
    from safetensors import safe_open

    with safe_open(Path(folder) / WEIGHTS, "pt") as file:
        for head in HEADS:
            key = f"{_PREFIX}{head}.weight"
            if key in file.keys():  # noqa: SIM118 (no mapping)
                return int(file.get_slice(key).get_shape()[0])
    return None
