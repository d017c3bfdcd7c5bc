"""Score answers with a reward model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from cai.errors import InputError, Problem
from cai.models.load import (
    best_dtype,
    context_length,
    default_micro_batch_tokens,
    hidden_size_of,
)
from cai.models.packing.layout import PackedBatch, PromptGroup, pack, pack_rows, separate
from cai.models.scalar import ScalarModel, answer_scores, reads_last_token, scores_padded_rows
from cai.models.trials import Attempt
from cai.records import Message, Prompt
from cai.templates import transcript
from cai.train.batching import ANY_LENGTH, TokenizedExample, bucket_by_length, tokenize


@torch.no_grad()
def score_prompt_groups(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> Tensor:
    """Score all answers of some prompts.

    Args:
        scalar: The reward model.
        prompt_groups: Prompts with their answers, as token ids.

    Returns:
        The scores of all answers, in order, ``[A]``, on the CPU; NaN for an answer that is longer,
        with its prompt, than what the model can read.

    Raises:
        InputError: If the model cannot score a text.
    """
    model = scalar.model
    max_tokens = default_micro_batch_tokens(model.device)
    if not reads_last_token(model):
        prompt_groups = separate(prompt_groups)
        if not scores_padded_rows(model):
            max_tokens = 1
    starts = [0, *accumulate(len(group.answers) for group in prompt_groups)]
    scores = torch.full([starts[-1]], math.nan)
    groups, places = _readable(prompt_groups, starts, context_length(model))
    for rows in bucket_by_length([group.size for group in groups], max_tokens):
        answers = [place for row in rows for place in places[row]]
        scores[answers] = _scores(scalar, [groups[row] for row in rows])
    return scores


def _readable(
    prompt_groups: Sequence[PromptGroup], starts: Sequence[int], context: int
) -> tuple[list[PromptGroup], list[list[int]]]:
    """Leave out the answers that do not fit in a context.

    Returns:
        The prompts with the answers that fit, and the places of those among all answers.
    """
    groups, places = [], []
    for group, start in zip(prompt_groups, starts, strict=False):
        room = context - len(group.prompt)
        fitting = [k for k, answer in enumerate(group.answers) if len(answer) <= room]
        if fitting:
            groups.append(PromptGroup(group.prompt, [group.answers[k] for k in fitting]))
            places.append([start + k for k in fitting])
    return groups, places


def _scores(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> Tensor:
    """Score the answers of one batch."""
    if reads_last_token(scalar.model):
        return _read_scores(scalar, prompt_groups)
    with Attempt() as attempt:
        return _read_scores(scalar, prompt_groups)
    message = f"cannot score a text: {attempt.failure}; choose another reward model"
    raise InputError([Problem(str(scalar.model.name_or_path), message)])


def _read_scores(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> Tensor:
    model = scalar.model
    dtype = torch.float32  # the heads of other models would round their scores too
    if reads_last_token(model):
        dtype = best_dtype(model.device, hidden_size_of(model.config))
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        return answer_scores(model, _pack(scalar, prompt_groups)).cpu()


def _pack(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> PackedBatch:
    """Pack prompts with their answers as the model can read them."""
    model, chat = scalar
    if reads_last_token(model):
        return pack(model, prompt_groups, chat.pad_id)
    return pack_rows(prompt_groups, chat.pad_id, model.device)


def score_rows(scalar: ScalarModel, rows: Sequence[TokenizedExample]) -> Tensor:
    """Score tokenized examples: one score per row, ``[B]``, on the CPU."""
    return score_prompt_groups(scalar, [row.prompt_group for row in rows])


def score_texts(
    scalar: ScalarModel, items: Sequence[tuple[Prompt, str]], *, ended: Sequence[bool] = ()
) -> Tensor:
    """Score answers as texts, in the reward model's own format.

    Args:
        scalar: The reward model.
        items: Prompts with an answer each.
        ended: Whether each answer has ended, and was not cut off; empty: all have.

    Returns:
        One score per answer, ``[B]``, on the CPU.
    """
    endings = ended or [True] * len(items)
    rows = [
        tokenize_for(scalar, prompt, answer, ended=has_ended)
        for (prompt, answer), has_ended in zip(items, endings, strict=True)
    ]
    return score_rows(scalar, rows)


def tokenize_for(
    scalar: ScalarModel, prompt: Prompt, answer: str, *, ended: bool = True
) -> TokenizedExample:
    """Tokenize a prompt with an answer as a reward model reads them.

    An encoder without a chat template reads a pair of texts, by its tokenizer's own separator.
    Where its tokenizer marks the second text by a token type, those tokens are the row's answer;
    else all are its prompt.

    Args:
        scalar: The reward model.
        prompt: The conversation so far.
        answer: The text of the answer.
        ended: Whether the answer has ended, and was not cut off.

    Raises:
        InputError: If the tokenizer marks a pair of texts by other types than 0 and 1.
    """
    chat = scalar.chat
    reads_last = reads_last_token(scalar.model)
    if chat.tokenizer.chat_template or reads_last:
        row = tokenize(chat, prompt, answer, ANY_LENGTH, ended=ended)
        assert row is not None  # no row is longer than ANY_LENGTH
        return row if reads_last else TokenizedExample(row.ids, [])
    pair = chat.tokenizer(_question(prompt.messages), answer, verbose=False)
    types = pair.get("token_type_ids", [])
    if not set(types) <= {0, 1} or types != sorted(types):
        message = f"its tokenizer marks two texts by other types of tokens than 0 and 1: {types}"
        raise InputError([Problem(chat.tokenizer.name_or_path, message)])
    start = types.index(1) if 1 in types else len(pair.input_ids)
    return TokenizedExample(pair.input_ids[:start], pair.input_ids[start:])


def _question(messages: Sequence[Message]) -> str:
    """The text of a single question; a transcript of a longer conversation."""
    if len(messages) == 1:
        return messages[0].content
    return transcript([message.model_dump() for message in messages])
