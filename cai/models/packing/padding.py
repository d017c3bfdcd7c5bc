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
    """The tokenizer's padding token; None if it has none or uses its end token."""
    pad = tokenizer.pad_token_id
    return None if pad is None or pad == tokenizer.eos_token_id else int(pad)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token to fill up short rows with; attention masks hide it everywhere.

    This is the tokenizer's padding token, else a reserved special token that its chat template does
    not use, else the end token. The tokenizer is not changed, so nothing new is saved as padding.
    """
    own = own_padding_id(tokenizer)
    if own is not None:
        return own
    roles = ("bos", "eos", "unk", "sep", "cls", "mask")
    used = {getattr(tokenizer, f"{role}_token", None) for role in roles}
    template = str(tokenizer.chat_template or "")
    added = sorted(tokenizer.added_tokens_decoder.items())
    special = {i: token.content for i, token in added if token.special}
    spare = {
        i: text
        for i, text in special.items()
        if text not in used and text not in template and not _MEDIA.search(text)
    }
    for word in RESERVED:
        for i, text in spare.items():
            if word in text.lower():
                return i
    return int(tokenizer.eos_token_id or 0)


def positions(attention_BL: Tensor) -> Tensor:
    """Position ids that count real tokens only, so that padding on either side moves nothing."""
    return (attention_BL.long().cumsum(1) - 1).clamp(min=0)


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask ``[B, T]`` of rows that end together."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, length - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, length - len(row) :] = 1
    return ids.to(device), mask.to(device)


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right and their attention mask, both ``[B, L]``."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)
