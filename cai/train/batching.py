"""From texts to token ids, once per text, and the plan of batches in which rows of like length stand together."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from cai.keys import shuffled
from cai.models.chat_template.format import ChatFormat
from cai.models.packing.layout import PromptGroup
from cai.records import Prompt

ANY_LENGTH = 1 << 20
"""A ``max_length`` that leaves nothing out."""
MICRO_BATCH_COST = 1 / 32
"""What a further part costs beside its tokens, as a share of a full one: weights are read and gradients added once more."""


class TokenizedExample(NamedTuple):
    """The token ids of a prompt and of an answer to it, its end of turn included."""

    prompt: list[int]
    answer: list[int]

    @property
    def ids(self) -> list[int]:
        return self.prompt + self.answer

    @property
    def prompt_group(self) -> PromptGroup:
        return PromptGroup(self.prompt, [self.answer])


def tokenize(
    chat: ChatFormat, prompt: Prompt, answer: str, max_length: int, *, ended: bool = True
) -> TokenizedExample | None:
    """A prompt with an answer, or None where they are too long together. An answer that has not ``ended`` was cut off.

    One that has ended ends in its stop token, as in a rollout, and not in what a template writes behind it.
    """
    before, added = chat.answered(prompt.messages, answer)
    if not ended:
        added = added[: added.rfind(answer) + len(answer)] if answer and answer in added else added
    prompt_ids, answer_ids = chat.continued(before, added)
    eos = chat.tokenizer.eos_token_id
    if ended and chat.chat_format == "transcript" and eos is not None and answer_ids[-1:] != [eos]:
        answer_ids = [*answer_ids, eos]
    if ended and (end := chat.end_of_turn) in answer_ids:
        answer_ids = answer_ids[: answer_ids.index(end) + 1]
    row = TokenizedExample(prompt_ids, answer_ids)
    return row if len(row.ids) <= max_length else None


def rows_key(rows: Iterable[TokenizedExample]) -> str:
    """Digest of tokenised rows, in order."""
    whole = hashlib.sha256()
    for row in rows:
        whole.update(
            array("q", [len(row.prompt), *row.prompt, len(row.answer), *row.answer]).tobytes()
        )
    return whole.hexdigest()


def bucket_by_length(sizes: Sequence[int], tokens: int, distributed: int = 1) -> list[list[int]]:
    """All rows in parts of like size, largest first, that hold at most ``tokens`` for each of the processes, padding counted.

    They are cut where that costs least: a part costs its tokens, padding counted, and ``MICRO_BATCH_COST`` of a full one for being a part.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    size = torch.tensor([sizes[i] for i in order], dtype=torch.float64)
    cost = torch.zeros(len(order) + 1, dtype=torch.float64)  # of the first rows
    begins, first = (
        [0],
        0,
    )  # where the last of their parts begins, and where it may begin at the earliest
    for end in range(1, len(order) + 1):
        while (
            end - first > distributed
            and -(-(end - first) // distributed) * sizes[order[first]] > tokens
        ):
            first += 1
        rows = (torch.arange(end - first, 0, -1) + distributed - 1) // distributed
        found = cost[first:end] + rows * size[first:end]
        cost[end], best = found.min(0)
        cost[end] += MICRO_BATCH_COST * tokens
        begins.append(first + int(best))
    parts, end = list[list[int]](), len(order)
    while end:
        parts.append(order[begins[end] : end])
        end = begins[end]
    return parts[::-1]


def epoch_batches(lengths: Sequence[int], batch_size: int, *key: object) -> Iterator[list[int]]:
    """Indices of one epoch in batches: a keyed shuffle, sorted by length within windows of eight batches, batches shuffled."""
    order = shuffled(range(len(lengths)), *key)
    window = batch_size * 8
    batches = []
    for at in range(0, len(order), window):
        part = sorted(order[at : at + window], key=lambda i: lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    yield from shuffled(batches, *key, "batches")
