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
    """Number the real tokens of each row from 0, so that padding on either side moves nothing.

    Args:
        attention_BL: 1 for real tokens and 0 for padding, ``[B, L]``.
    """
    return (attention_BL.long().cumsum(1) - 1).clamp(min=0)


def pad_left(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pad rows on the left, so that they end together.

    Returns:
        Token ids and attention mask, both ``[B, L]``.
    """
    length = max(map(len, rows))
    padded = [[pad_id] * (length - len(row)) + list(row) for row in rows]
    mask = [[0] * (length - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pad rows on the right, so that they begin together.

    Returns:
        Token ids and attention mask, both ``[B, L]``.
    """
    length = max(map(len, rows))
    padded = [list(row) + [pad_id] * (length - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (length - len(row)) for row in rows]
    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)
