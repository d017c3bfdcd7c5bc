"""From texts to padded tensors: one tokenisation per text, rows of like length together."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cai.keys import shuffled
from cai.models.chat import ChatFormat
from cai.records import Prompt


class Answered(NamedTuple):
    """The token ids of a prompt and of an answer to it, its end of turn included."""

    prompt: list[int]
    answer: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.answer


class Padded(NamedTuple):
    """Rows padded on the right: token ids, attention mask, and which tokens belong to the answer, all ``[B, T]``."""

    ids: Tensor
    mask: Tensor
    answer: Tensor


def tokenize(chat: ChatFormat, prompt: Prompt, answer: str, max_length: int) -> Answered | None:
    """A prompt with an answer, or None where they are too long together."""
    before, added = chat.answered(prompt.messages, answer)
    prompt_ids, answer_ids = chat.continued(before, added)
    eos = chat.tokenizer.eos_token_id
    if chat.style == "transcript" and eos is not None and answer_ids[-1:] != [eos]:
        answer_ids = [*answer_ids, eos]
    row = Answered(prompt_ids, answer_ids)
    return row if len(row.ids) <= max_length else None


def rows_key(rows: Iterable[Answered]) -> str:
    """Digest of tokenised rows, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(array("q", [len(row.prompt), *row.prompt, len(row.answer), *row.answer]).tobytes())
    return whole.hexdigest()


def pad(rows: Sequence[Answered], pad_id: int, device: torch.device) -> Padded:
    """Right-padded tensors of some rows."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.long)
    mask, answer = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        size = len(row.ids)
        ids[i, :size] = torch.tensor(row.ids)
        mask[i, :size] = 1
        answer[i, len(row.prompt) : size] = True
    return Padded(ids.to(device), mask.to(device), answer.to(device))


def epoch_batches(lengths: Sequence[int], batch_size: int, *key: object) -> Iterator[list[int]]:
    """Indices of one epoch in batches: a keyed shuffle, sorted by length within windows of eight batches, batches shuffled."""
    order = shuffled(range(len(lengths)), *key)
    window = batch_size * 8
    batches = []
    for at in range(0, len(order), window):
        part = sorted(order[at : at + window], key=lambda i: lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    yield from shuffled(batches, *key, "batches")
