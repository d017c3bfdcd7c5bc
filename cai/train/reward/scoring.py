"""Score answers with a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from cai.models.chat_template.format import ChatFormat
from cai.models.load import best_dtype, default_micro_batch_tokens, hidden_size_of
from cai.models.packing.layout import PromptGroup, pack
from cai.models.packing.padding import padding_id
from cai.models.scalar import ScalarModel, answer_scores
from cai.records import Prompt
from cai.train.batching import ANY_LENGTH, TokenizedExample, bucket_by_length, tokenize


@torch.no_grad()
def score_prompt_groups(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> Tensor:
    """Score all answers of some prompts.

    Args:
        scalar: The reward model and its tokenizer.
        prompt_groups: Prompts with their answers, as token ids.

    Returns:
        The scores of all answers, in order, ``[A]``, on the CPU.
    """
    model, tokenizer = scalar
    starts = [0, *accumulate(len(group.answers) for group in prompt_groups)]
    scores = torch.empty(starts[-1])
    lengths = [group.size for group in prompt_groups]
    dtype = best_dtype(model.device, hidden_size_of(model.config))
    for rows in bucket_by_length(lengths, default_micro_batch_tokens(model.device)):
        packed = pack(model, [prompt_groups[row] for row in rows], padding_id(tokenizer))
        answers = [answer for row in rows for answer in range(starts[row], starts[row + 1])]
        with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
            scores[answers] = answer_scores(model, packed).cpu()
    return scores


def score_rows(scalar: ScalarModel, rows: Sequence[TokenizedExample]) -> Tensor:
    """Score tokenized examples: one score per row, ``[B]``, on the CPU."""
    return score_prompt_groups(scalar, [row.prompt_group for row in rows])


def score_texts(
    scalar: ScalarModel, items: Sequence[tuple[Prompt, str]], chat_format: str = ""
) -> Tensor:
    """Score answers as texts.

    Args:
        scalar: The reward model and its tokenizer.
        items: Prompts with an answer each.
        chat_format: How conversations are written; empty: by the model's chat template.

    Returns:
        One score per answer, ``[B]``, on the CPU.
    """
    chat = ChatFormat(scalar.tokenizer, chat_format)
    rows = [tokenize(chat, prompt, answer, ANY_LENGTH) for prompt, answer in items]
    return score_rows(scalar, [row for row in rows if row is not None])
