"""Open models and their tokenizers: the only place that calls ``from_pretrained`` for them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch.nn.modules.dropout import _DropoutNd
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cai import shipped
from cai.errors import InputError, Problem
from cai.keys import digest
from cai.models.names import REFERENCE, check_available
from cai.quiet import quiet

SHOWN = 3
"""Weights that a message names."""
_RATE = re.compile("drop|jitter")


class LanguageModel(NamedTuple):
    """A causal language model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def resolve(name: str) -> str:
    """The folder or hub id that a model's name means."""
    return str(shipped.reference_model()) if name == REFERENCE else name


def same_tokenization(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether the same conversation is the same token ids to both."""
    return (
        one.get_vocab() == other.get_vocab()
        and one.eos_token_id == other.eos_token_id
        and getattr(one, "chat_template", None) == getattr(other, "chat_template", None)
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Open a model's tokenizer as it is; :func:`cai.models.packing.padding.padding_id` says what to pad with.

    Raises:
        InputError: if the name is neither a model folder nor a model that can be fetched.
    """
    check_available(name)
    if (Path(name) / "adapter_config.json").is_file() and not (
        Path(name) / "config.json"
    ).is_file():
        message = "holds adapters, not a model; name the folder of the merged model"
        raise InputError([Problem(name, message)])
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                resolve(name), trust_remote_code=False
            )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            [Problem(name, f"no tokenizer could be opened: {_first_line(error)}")]
        ) from None
    return tokenizer


def load_language_model(
    name: str, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> LanguageModel:
    """Open a language model for inference or training, with dropout off.

    Args:
        name: ``reference``, a folder, or the id of a model on the hub.
        device: Where to put it; by default :func:`best_device`.
        dtype: Of its weights; by default :func:`best_dtype` of the device.

    Raises:
        InputError: if there is no such model, or if weights are missing.
    """
    device = device or best_device()
    tokenizer = load_tokenizer(name)
    model, faults = open_model(AutoModelForCausalLM, name, dtype=dtype or best_dtype(device))
    faults.refuse(name)
    disable_dropout(model)
    return LanguageModel(model.to(device).eval(), tokenizer)  # type: ignore[arg-type]


class Faults(NamedTuple):
    """Weights that a model's files do not provide, so the library drew them at random."""

    missing: frozenset[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """By name, the shape in the file and the shape that ``config.json`` asks for."""

    def refuse(self, name: str) -> None:
        """Raise an InputError that names the weights, if there are any."""
        problems = []
        if self.missing:
            listed = _listed(self.missing)
            problems.append(
                Problem(name, f"weights are missing: {listed}; fetch or save the model again")
            )
        if self.mismatched:
            shapes = _listed(
                f"{key} is {list(found)}, not {list(wanted)}"
                for key, (found, wanted) in self.mismatched.items()
            )
            problems.append(Problem(name, f"weights do not fit the model's config.json: {shapes}"))
        if problems:
            raise InputError(problems)


def open_model(kind: Any, name: str, **how: Any) -> tuple[PreTrainedModel, Faults]:
    """Open a model with one of the library's ``AutoModel`` classes.

    Args:
        kind: The class.
        name: ``reference``, a folder, or the id of a model on the hub.
        how: Further arguments of ``from_pretrained``.

    Returns:
        The model, and what is wrong with its weights: which of it matters is up to the caller.

    Raises:
        InputError: if this class cannot open the model.
    """
    try:
        with quiet():
            model, loaded = kind.from_pretrained(
                resolve(name),
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **how,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(
            [Problem(name, f"no model could be opened: {_first_line(error)}")]
        ) from None
    mismatched = {
        key: (tuple(found), tuple(wanted)) for key, found, wanted in loaded["mismatched_keys"]
    }
    return model, Faults(frozenset(loaded["missing_keys"]), mismatched)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listed(items: Iterable[str]) -> str:
    """The first few items, in order, and how many more there are."""
    ordered = sorted(items)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more


def disable_dropout(model: torch.nn.Module) -> None:
    """Set every rate of dropout, and of noise on a router, to zero (arXiv 2403.17031, detail 17).

    Rollout and update must see the same function. A rate is the ``p`` of a layer, an attribute that
    a module's forward passes to a function, or a value of the config that forward looks up.
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        _clear_rates(module)
        if isinstance(config := vars(module).get("config"), PreTrainedConfig):
            _clear_rates(config)


def _clear_rates(holder: object) -> None:
    for name, value in list(vars(holder).items()):
        if isinstance(value, float) and _RATE.search(name):
            setattr(holder, name, 0.0)


def context_length(model: PreTrainedModel) -> int:
    """How many tokens a model can hold; very many where its config does not say."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))


def best_device() -> torch.device:
    """The accelerator of this process if there is one, else the CPU (also where a launcher was told to use that)."""
    if (
        not torch.accelerator.is_available()
        or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    ):
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    return torch.device(kind.type if kind else "cpu", int(os.environ.get("LOCAL_RANK", "0")))


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it fast, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return (
        torch.bfloat16
        if device.type == "cpu" and torch.cpu._is_amx_tile_supported()
        else torch.float32
    )


def default_micro_batch_tokens(device: torch.device) -> int:
    """Tokens to read at once, padding counted: what the caches of a CPU hold, or what keeps an accelerator busy."""
    return 1_024 if device.type == "cpu" else 16_384


@cache
def _file_digest(path: str, modified: float, size: int) -> str:
    from cai.files import sha256

    del modified, size  # part of the cache key only
    return sha256(Path(path))


def fingerprint(name: str) -> str:
    """What identifies a model's function: the content of its weights and of its tokenizer for a folder, else its name.

    Memory of answers is keyed on this, so a checkpoint that was trained anew is another model.
    """
    folder = Path(resolve(name))
    if not folder.is_dir():
        return f"hub:{name}"
    files = sorted(
        p
        for p in folder.iterdir()
        if p.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt")
    )
    parts = [
        (p.name, _file_digest(str(p), os.stat(p).st_mtime, os.stat(p).st_size))
        for p in files
        if p.name != "manifest.json"
    ]
    return f"local:{digest(parts)}"
