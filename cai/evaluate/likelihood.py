"""How likely a model finds given answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cai.models.chat import ChatFormat
from cai.models.forest import plant
from cai.models.load import load_language_model
from cai.models.padding import padding_id
from cai.models.project import next_token_logits
from cai.records import Prompt
from cai.rl.losses import token_logprobs
from cai.train.batches import tokenize


@torch.inference_mode()
def answer_logprobs(
    name: str, pairs: Sequence[tuple[Prompt, str]], style: str = "", batch_size: int = 64
) -> tuple[list[float], list[float]]:
    """Log-probability of each answer (its end of turn included), in nats, and its length in tokens."""
    model, tokenizer = load_language_model(name, dtype=torch.float32)
    chat = ChatFormat(tokenizer, style)
    rows = [row for prompt, answer in pairs if (row := tokenize(chat, prompt, answer, 1 << 20))]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    totals = [0.0] * len(rows)
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        forest = plant(model, [rows[i].tree for i in part], padding_id(tokenizer))
        sums = forest.sums(token_logprobs(next_token_logits(model, forest), forest.targets))
        for i, total in zip(part, sums.tolist(), strict=True):
            totals[i] = total
    return totals, [float(len(row.answer)) for row in rows]
