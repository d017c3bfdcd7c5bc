"""Rows of unequal length as one tensor."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

RESERVED = ("pad", "reserved", "unused")
"""How tokenizers name special tokens that are set aside, the likeliest first."""
_MEDIA = re.compile("image|video|vision|audio")
"""Tokens that a model replaces by what it sees or hears."""


def own_padding_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The tokenizer's padding token, unless it has none or also ends texts with it."""
    pad = tokenizer.pad_token_id
    return None if pad is None or pad == tokenizer.eos_token_id else int(pad)  # type: ignore[arg-type]


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that short rows are filled up with. Attention masks hide it wherever it stands.

    It is the tokenizer's padding token; else a reserved special token that its chat template does not use; else the end token.
    The tokenizer is left as it is, so that none of these is saved as its padding token.
    """
    own = own_padding_id(tokenizer)
    if own is not None:
        return own
    used = {getattr(tokenizer, f"{role}_token", None) for role in ("bos", "eos", "unk", "sep", "cls", "mask")}
    template = str(tokenizer.chat_template or "")
    special = {i: token.content for i, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special}
    spare = {i: text for i, text in special.items() if text not in used and text not in template and not _MEDIA.search(text)}
    for word in RESERVED:
        for i, text in spare.items():
            if word in text.lower():
                return i
    return int(tokenizer.eos_token_id or 0)  # type: ignore[arg-type]


def positions(attention_BL: Tensor) -> Tensor:
    """Position ids that count real tokens only, so that padding on either side moves nothing."""
    return (attention_BL.long().cumsum(1) - 1).clamp(min=0)


def pad_left(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask ``[B, T]`` of rows that end together."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, length - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, length - len(row) :] = 1
    return ids.to(device), mask.to(device)


def pad_right(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right and their attention mask, both ``[B, L]``."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)
