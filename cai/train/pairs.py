"""Labelled comparisons as the reward model and DPO train on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cai.keys import digest
from cai.models.chat import ChatFormat
from cai.records import Preference
from cai.train.batches import Answered, rows_key, tokenize


class Pair(NamedTuple):
    """Two tokenised answers to a prompt (by its id), and the probability that the first is the better one."""

    first: Answered
    second: Answered
    p_first: float
    prompt: str

    @property
    def length(self) -> int:
        return max(len(self.first.ids), len(self.second.ids))


def pairs_key(pairs: Sequence[Pair]) -> str:
    """Digest of labelled pairs, in order."""
    return digest([rows_key(row for pair in pairs for row in (pair.first, pair.second)), [pair.p_first for pair in pairs]])


class Labelled(NamedTuple):
    """The pairs that can be trained on, and how many could not."""

    pairs: list[Pair]
    unlabelled: int
    too_long: int


def labelled_pairs(preferences: Sequence[Preference], chat: ChatFormat, max_length: int) -> Labelled:
    """Tokenise the comparisons that have a label and fit. Where a label came from is never looked at."""
    pairs, unlabelled, too_long = list[Pair](), 0, 0
    for preference in preferences:
        if preference.p_first is None:
            unlabelled += 1
            continue
        shown = preference.comparison
        first, second = (tokenize(chat, shown.prompt, text, max_length) for text in (shown.first, shown.second))
        if first is None or second is None:
            too_long += 1
        else:
            pairs.append(Pair(first, second, preference.p_first, shown.prompt.id))
    return Labelled(pairs, unlabelled, too_long)
