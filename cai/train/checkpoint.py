"""Checkpoints are plain ``save_pretrained`` folders, published by rename."""

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
from cai.train.lora import merged, save_adapters


def save(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, out: Path, base: str, card: str = ""
) -> None:
    """Write model and tokenizer to ``out``: to a neighbour first, then renamed, so that a half-written one is never there.

    Adapters are merged into the weights, so that anything can open the folder; by themselves they stand in ``out/adapter``.
    ``card`` becomes the folder's ``README.md``.
    """
    weights = {
        name.removeprefix("model."): t
        for name, t in engine.weights().items()
        if name.startswith("model.")
    }
    if distributed.is_main():
        model: PreTrainedModel = engine.unwrapped.model
        for (
            twin,
            weight,
        ) in model.all_tied_weights_keys.items():  # gathered from shards they are two; one is kept
            weights[twin] = weights[weight]
        with published(out) as partial, quiet():
            model.save_pretrained(partial, state_dict=merged(model, weights))
            tokenizer.save_pretrained(partial)
            if card:
                (partial / "README.md").write_text(card, encoding="utf-8")
            save_adapters(model, weights, base, partial / "adapter")
    distributed.wait()


@contextlib.contextmanager
def published(place: Path) -> Iterator[Path]:
    """A neighbour of a folder to write to; it takes the folder's place when all is written.

    Raises:
        LimitReached: if the disk is full; what was there before stays.
    """
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise LimitReached(
            f"{place}: cannot be written: {error}; free some space and run again"
        ) from None
