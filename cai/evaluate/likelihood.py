"""Likelihood of given answers under a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cai.models.chat import open_chat
from cai.models.load import default_micro_batch_tokens, load_language_model
from cai.models.packing.layout import pack
from cai.models.packing.logits import next_token_logits
from cai.records import Prompt
from cai.rl.losses import token_logprobs
from cai.train.batching import bucket_by_length, tokenize

NO_LIMIT = 1 << 20
"""Tokens of an answer; none is left out for its length."""


@torch.inference_mode()
def answer_logprobs(
    name: str, pairs: Sequence[tuple[Prompt, str]], chat_format: str = "", max_tokens: int = 0
) -> tuple[list[float], list[float]]:
    """Compute the log-probability of answers under a model.

    Args:
        name: The model.
        pairs: Prompts with their answers.
        chat_format: Name of the chat format; empty for the model's own.
        max_tokens: Tokens to read at once, padding included; 0 for as many as the device takes.

    Returns:
        The log-probability of each answer in nats, its end of turn included, and its length in
        tokens.
    """
    model, tokenizer = load_language_model(name, dtype=torch.float32)
    chat = open_chat(name, chat_format, tokenizer=tokenizer)
    tokenized = [tokenize(chat, prompt, answer, NO_LIMIT) for prompt, answer in pairs]
    rows = [row for row in tokenized if row]
    totals = [0.0] * len(rows)
    max_tokens = max_tokens or default_micro_batch_tokens(model.device)
    for batch in bucket_by_length([len(row.ids) for row in rows], max_tokens):
        packed = pack(model, [rows[i].prompt_group for i in batch], chat.pad_id)
        logprobs = token_logprobs(next_token_logits(model, packed), packed.targets)
        for i, total in zip(batch, packed.sums(logprobs).tolist(), strict=True):
            totals[i] = total
    return totals, [float(len(row.answer)) for row in rows]
