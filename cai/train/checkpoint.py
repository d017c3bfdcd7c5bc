"""Checkpoints are plain ``save_pretrained`` folders, published by rename."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai import processes
from cai.train.engine import Engine
from cai.train.lora import merged, save_adapters


def save(engine: Engine, tokenizer: PreTrainedTokenizerBase, out: Path, base: str, card: str = "") -> None:
    """Write model and tokenizer to ``out``: to a neighbour first, then renamed, so that a half-written one is never there.

    Adapters are merged into the weights, so that anything can open the folder; by themselves they stand in ``out/adapter``.
    ``card`` becomes the folder's ``README.md``.
    """
    weights = {name.removeprefix("model."): t for name, t in engine.weights().items() if name.startswith("model.")}
    if processes.is_main():
        model: PreTrainedModel = engine.plain.model
        for twin, weight in model.all_tied_weights_keys.items():  # gathered from shards they are two; one is kept
            weights[twin] = weights[weight]
        partial = out.with_name(out.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial, state_dict=merged(model, weights))
        tokenizer.save_pretrained(partial)
        if card:
            (partial / "README.md").write_text(card, encoding="utf-8")
        save_adapters(model, weights, base, partial / "adapter")
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    processes.wait()
