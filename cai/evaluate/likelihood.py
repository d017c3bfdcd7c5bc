"""How likely a model finds given answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cai.models.chat_template.format import ChatFormat
from cai.models.load import load_language_model
from cai.models.packing.layout import pack
from cai.models.packing.logits import next_token_logits
from cai.models.packing.padding import padding_id
from cai.records import Prompt
from cai.rl.losses import token_logprobs
from cai.train.batching import tokenize


@torch.inference_mode()
def answer_logprobs(
    name: str, pairs: Sequence[tuple[Prompt, str]], chat_format: str = "", batch_size: int = 64
) -> tuple[list[float], list[float]]:
    """Log-probability of each answer (its end of turn included), in nats, and its length in tokens."""
    model, tokenizer = load_language_model(name, dtype=torch.float32)
    chat = ChatFormat(tokenizer, chat_format)
    rows = [row for prompt, answer in pairs if (row := tokenize(chat, prompt, answer, 1 << 20))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    totals = [0.0] * len(rows)
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        packed = pack(model, [rows[i].prompt_group for i in part], padding_id(tokenizer))
        sums = packed.sums(token_logprobs(next_token_logits(model, packed), packed.targets))
        for i, total in zip(part, sums.tolist(), strict=True):
            totals[i] = total
    return totals, [float(len(row.answer)) for row in rows]
