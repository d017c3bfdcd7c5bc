"""Open causal language models and their tokenizers: the only place that calls ``from_pretrained`` for them."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cai import shipped
from cai.errors import InputError, Problem, did_you_mean
from cai.keys import digest
from cai.models.names import REFERENCE

HUB_SECONDS = 8.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class LanguageModel(NamedTuple):
    """A causal language model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def resolve(name: str) -> str:
    """The folder or hub id that a model's name means."""
    return str(shipped.reference_model()) if name == REFERENCE else name


def _check_name(name: str) -> None:
    """Ask the hub once for a model that is neither here nor in its cache: the library would ask for most of a minute."""
    if name == REFERENCE or Path(name).is_dir():
        return
    if not _HUB_ID.fullmatch(name):
        raise InputError([Problem(name, "is no folder, nor can it be the name of a model on the hub")])
    hint = did_you_mean(name, [REFERENCE])
    try:
        if huggingface_hub.try_to_load_from_cache(name, "config.json") is None and not huggingface_hub.is_offline_mode():
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(name, "config.json"), timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        raise InputError([Problem(name, f"is no folder, and the hub has no such model, or shows it to members only{hint}")]) from None
    except EntryNotFoundError:
        raise InputError([Problem(name, "on the hub holds no model: it has no config.json")]) from None
    except Exception as error:  # of the HTTP library, which another release of the hub's client changes
        text = f"is no folder, and the hub cannot be asked for it ({error}){hint}; without a network, name a folder"
        raise InputError([Problem(name, text)]) from None


def reads_alike(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether the same conversation is the same token ids to both."""
    return (
        one.get_vocab() == other.get_vocab()
        and one.eos_token_id == other.eos_token_id
        and getattr(one, "chat_template", None) == getattr(other, "chat_template", None)
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, with a padding token that is not its end token.

    A tokenizer without one gets the first unused of its other special tokens; sharing the end token would hide every
    real end of text from the losses.

    Raises:
        InputError: if the name is neither a model folder nor a model that can be fetched.
    """
    _check_name(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError([Problem(name, f"no tokenizer could be opened: {str(error).splitlines()[0]}")]) from None
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = tokenizer.unk_token or next(
            (t for t in tokenizer.all_special_tokens if t not in (tokenizer.eos_token, tokenizer.bos_token)), None
        )
        # masked everywhere it is used, so any token that is not the end token will do
        tokenizer.pad_token = spare or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_language_model(name: str, device: torch.device | None = None, dtype: torch.dtype | None = None) -> LanguageModel:
    """Open a model for inference or training: dropout off, in ``dtype`` (by default :func:`best_dtype` of the device).

    Raises:
        InputError: if the name is neither a model folder nor a model that can be fetched.
    """
    device = device or best_device()
    tokenizer = load_tokenizer(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            resolve(name), dtype=dtype or best_dtype(device), trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError([Problem(name, f"no model could be opened: {str(error).splitlines()[0]}")]) from None
    disable_dropout(model)
    return LanguageModel(model.to(device).eval(), tokenizer)  # type: ignore[arg-type]


def disable_dropout(model: torch.nn.Module) -> None:
    """Set every dropout to zero: rollout and update must see the same function (arXiv 2403.17031, detail 17)."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config: Any = getattr(model, "config", None)
    for field in ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout"):
        if hasattr(config, field):
            setattr(config, field, 0.0)


def context_length(model: PreTrainedModel) -> int:
    """How many tokens a model can hold; very many where its config does not say."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30))


def best_device() -> torch.device:
    """The accelerator of this process if there is one, else the CPU (also where a launcher was told to use that)."""
    if not torch.accelerator.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    return torch.device(kind.type if kind else "cpu", int(os.environ.get("LOCAL_RANK", "0")))


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it fast, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else torch.float32


def pass_tokens(device: torch.device) -> int:
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
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"))
    parts = [(p.name, _file_digest(str(p), os.stat(p).st_mtime, os.stat(p).st_size)) for p in files if p.name != "manifest.json"]
    return f"local:{digest(parts)}"
