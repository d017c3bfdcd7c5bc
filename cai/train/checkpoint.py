"""Checkpoints: plain ``save_pretrained`` folders, published by a rename."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from cai import distributed
from cai.errors import LimitReached
from cai.files import read_json
from cai.models.chat_template.format import ChatFormat
from cai.models.load import MIN_BFLOAT16_HIDDEN_SIZE, hidden_size_of, stored_dtype
from cai.quiet import quiet
from cai.train.engine import Engine
from cai.train.lora import has_adapters, merge_adapters, save_adapters


class Origin(NamedTuple):
    """What a checkpoint needs to know of the model that its training started from.

    Attributes:
        base: Name of that model.
        chat: How it writes conversations.
        merge_adapters: Whether to save the whole model instead of its adapters.
    """

    base: str
    chat: ChatFormat
    merge_adapters: bool


def save(engine: Engine, origin: Origin, out: Path, card: str = "") -> None:
    """Write a trained model and its tokenizer to a folder. Collective.

    Weights are stored in the data type of :func:`checkpoint_dtype`. The generation config names all
    tokens that end an answer, so that other tools stop where training stopped.

    Args:
        engine: The engine that trained the model.
        origin: What the training started from.
        out: The folder; it appears complete or not at all.
        card: Text of the folder's ``README.md``; empty: none.

    Raises:
        LimitReached: If the disk is full.
    """
    all_weights = engine.weights()
    if distributed.is_main():
        model: PreTrainedModel = engine.unwrapped.model
        weights = {
            name.removeprefix("model."): tensor
            for name, tensor in all_weights.items()
            if name.startswith("model.")
        }
        # tied weights that are gathered from shards become two tensors; one is enough
        for twin, original in model.all_tied_weights_keys.items():
            weights[twin] = weights[original]
        _name_stops(model, origin.chat.stop_ids)
        with published(out) as partial, quiet():
            if has_adapters(model) and not origin.merge_adapters:
                save_adapters(model, weights, origin.base, partial)
                model.config.save_pretrained(partial)
                if model.can_generate():
                    model.generation_config.save_pretrained(partial)
            else:
                _save_whole(model, merge_adapters(model, weights), origin.base, partial)
            origin.chat.tokenizer.save_pretrained(partial)
            if card:
                (partial / "README.md").write_text(card, encoding="utf-8")
    distributed.wait()


def _save_whole(
    model: PreTrainedModel, weights: dict[str, Tensor], base: str, folder: Path
) -> None:
    """Write all weights."""
    dtype = checkpoint_dtype(model, base)
    cast = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    for twin, original in model.all_tied_weights_keys.items():
        cast[twin] = cast[original]  # so that they are still one, and stored once
    model.save_pretrained(folder, state_dict=cast)
    if dtype != model.dtype:  # the library writes that of the model in memory
        path = folder / "config.json"
        config = read_json(path) | {"dtype": str(dtype).removeprefix("torch.")}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def checkpoint_dtype(model: PreTrainedModel, base: str) -> torch.dtype:
    """Return the data type that a trained model's weights are stored in.

    It is that of the base. A small model is stored in float32, in which it is trained: rounded, it
    would lose a good part of what it learned, and there is little to save.

    Args:
        model: The model.
        base: Name of the model that training started from.
    """
    is_small = hidden_size_of(model.config) < MIN_BFLOAT16_HIDDEN_SIZE
    return torch.float32 if is_small else stored_dtype(base)


def _name_stops(model: PreTrainedModel, stops: frozenset[int]) -> None:
    """Let the generation config of a language model name all tokens that end an answer."""
    if not model.can_generate():
        return
    config = model.generation_config
    named = config.eos_token_id
    known = set(named) if isinstance(named, list) else {named}
    if stops and known != stops:
        config.eos_token_id = sorted(stops)


@contextlib.contextmanager
def published(folder: Path) -> Iterator[Path]:
    """Provide a neighboring folder to write to, which replaces ``folder`` at the end.

    Raises:
        LimitReached: If the disk is full; ``folder`` keeps its previous content.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        message = f"{folder}: cannot be written: {error}; free some space and run again"
        raise LimitReached(message) from None
