"""Read rows of tokens, then one more token of each at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai.models.cache import accepted, cache_argument, cached, has_attention, new_cache
from cai.models.packing.padding import positions


class Reader:
    """Predicts the next token of each row of a batch.

    Args:
        model: The model to read with.
        ids: Token ids of the rows, padded on the left, ``[B, L]``.
        mask: 1 for tokens and 0 for padding, ``[B, L]``.
        room: How many tokens are read after that, at most.
        keeps_cache: Keep what the model computed for earlier tokens; else it reads all of them each
            time.
    """

    def __init__(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, *, room: int, keeps_cache: bool
    ) -> None:
        self._model = model
        self._new_ids = ids
        self._mask = torch.cat([mask, mask.new_ones(len(ids), room)], dim=1)
        self._length = ids.shape[1]
        self._positions = positions(mask)
        self._keeps_cache = keeps_cache
        self._is_read = False
        self._cache: Any = new_cache(model) if keeps_cache else None

    def next_logits(self) -> Tensor:
        """Read the tokens that were not read yet; return the logits ``[B, V]`` that follow."""
        inputs = {
            "input_ids": self._new_ids,
            "attention_mask": self._mask[:, : self._length],
            "position_ids": self._positions,
            # as an index: of a slice of a long text PyTorch copies the frozen head once per row
            "logits_to_keep": self._new_ids.new_tensor([self._new_ids.shape[1] - 1]),
        }
        model = self._model
        if not self._keeps_cache:
            out = model(**accepted(model, inputs | {"use_cache": False}))
        elif self._cache is None:
            out = model(**accepted(model, inputs), use_cache=True)
            self._cache = out[cache_argument(model)]
        else:
            if self._is_read and not has_attention(self._cache):
                del inputs["attention_mask"]  # a state knows no columns
            out = model(**accepted(model, inputs), **cached(model, self._cache))
        self._is_read = True
        logits: Tensor = out.logits[:, -1]
        return logits

    def append(self, tokens: Tensor) -> None:
        """Continue each row by a token, ``[B]``."""
        new, position = tokens.unsqueeze(1), self._positions[:, -1:] + 1
        self._length += 1
        if self._keeps_cache:
            self._new_ids, self._positions = new, position
        else:
            self._new_ids = torch.cat([self._new_ids, new], dim=1)
            self._positions = torch.cat([self._positions, position], dim=1)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be kept several times."""
        if self._keeps_cache:
            self._cache.reorder_cache(rows)
        self._new_ids, self._positions = self._new_ids[rows], self._positions[rows]
        self._mask = self._mask[rows]
