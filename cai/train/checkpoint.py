"""Checkpoints: plain ``save_pretrained`` folders, published by a rename."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai import distributed
from cai.errors import LimitReached
from cai.quiet import quiet
from cai.train.engine import Engine
from cai.train.lora import merge_adapters, save_adapters


def save(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, out: Path, base: str, card: str = ""
) -> None:
    """Write a trained model and its tokenizer to a folder. Collective.

    Adapters are merged into the weights, so that any tool can load the folder, and are also saved
    on their own in ``out/adapter``.

    Args:
        engine: The engine that trained the model.
        tokenizer: The model's tokenizer.
        out: The folder; it appears complete or not at all.
        base: Name of the model that training started from.
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
        with published(out) as partial, quiet():
            model.save_pretrained(partial, state_dict=merge_adapters(model, weights))
            tokenizer.save_pretrained(partial)
            if card:
                (partial / "README.md").write_text(card, encoding="utf-8")
            save_adapters(model, weights, base, partial / "adapter")
    distributed.wait()


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
