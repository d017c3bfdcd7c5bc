"""Labelled comparisons as the reward model and DPO train on them: one element per prompt, each of its answers once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cai.keys import digest
from cai.models.chat_template.format import ChatFormat
from cai.models.packing.layout import PromptGroup
from cai.records import Preference
from cai.train.batching import TokenizedExample, rows_key, tokenize


class PairLabel(NamedTuple):
    """A label: how probable it is that answer ``first`` of an element is better than answer ``second``."""

    first: int
    second: int
    p_first: float
    margin: float = 0.0  # by how much the better score should lead, in units of the score
    weight: float = 1.0
    source: str = ""
    principle: str = ""  # the one that spoke loudest for the label, where a judge gave it

    @property
    def is_clear(self) -> bool:
        return abs(self.p_first - 0.5) > CLEAR


CLEAR = 0.1
"""How far from one half a label must be to count when accuracy is measured."""


class PreferenceGroup(NamedTuple):
    """A prompt with all answers to it that were compared, and their labels: a pair, a ranking, or any graph between.

    All comparisons of a prompt stay together: apart, a ranking of ``K`` answers would show each of them ``K - 1`` times in an
    epoch, and be learnt by heart (arXiv 2203.02155, section 3.4).
    """

    prompt: str  # its id
    prompt_group: PromptGroup
    labels: list[PairLabel]


class PreferenceDataset(NamedTuple):
    """What can be trained on, and how many labels could not be used for which reason."""

    groups: list[PreferenceGroup]
    left_out: dict[str, int]


def build_preference_groups(
    preferences: Iterable[Preference],
    chat: ChatFormat,
    max_length: int,
    *,
    weights: Mapping[str, float] | None = None,
    smoothing: float = 0.0,
) -> PreferenceDataset:
    """Tokenise the comparisons that have a label and fit, and put those of one prompt together.

    ``weights`` says how much the labels of a source count, 1 where it says nothing; a source of weight 0 is left out.
    ``smoothing`` is the share of labels that is taken to be flipped by chance.
    """
    left_out = {"unlabelled": 0, "dropped_too_long": 0, "answers_alike": 0, "weight_zero": 0}
    groups: dict[str, PreferenceGroup] = {}
    for preference in preferences:
        weight = (weights or {}).get(preference.source, 1.0)
        if preference.p_first is None or not weight:
            left_out["unlabelled" if preference.p_first is None else "weight_zero"] += 1
            continue
        shown = preference.comparison
        first, second = (
            tokenize(chat, shown.prompt, text, max_length) for text in (shown.first, shown.second)
        )
        if first is None or second is None:
            left_out["dropped_too_long"] += 1
        elif first.answer == second.answer:
            left_out["answers_alike"] += 1
        else:
            group = groups.setdefault(
                shown.prompt.id, PreferenceGroup(shown.prompt.id, PromptGroup(first.prompt, []), [])
            )
            i, j = (_place(group.prompt_group.answers, row.answer) for row in (first, second))
            p = smoothed(preference.p_first, smoothing)
            group.labels.append(
                PairLabel(
                    i,
                    j,
                    p,
                    preference.margin,
                    weight,
                    preference.source,
                    _dominant_principle(preference),
                )
            )
    return PreferenceDataset(list(groups.values()), left_out)


def flatten_pairs(
    groups: Sequence[PreferenceGroup], device: torch.device
) -> tuple[Tensor, Tensor, list[PairLabel]]:
    """The labels of some elements with the places of their answers, ``[P]`` each, among the answers of all of them."""
    first, second, labels, at = list[int](), list[int](), list[PairLabel](), 0
    for group in groups:
        for label in group.labels:
            first.append(at + label.first)
            second.append(at + label.second)
            labels.append(label)
        at += len(group.prompt_group.answers)
    return torch.tensor(first, device=device), torch.tensor(second, device=device), labels


def _dominant_principle(preference: Preference) -> str:
    """The principle whose reading says most in favour of the label; empty for labels of people."""
    side = 1 if (preference.p_first or 0) >= 0.5 else -1
    read = [
        (side * (r.p_first - 0.5), r.principle)
        for r in preference.judgments
        if r.p_first is not None
    ]
    return max(read)[1] if read else ""


def _place(answers: list[list[int]], answer: list[int]) -> int:
    if answer not in answers:
        answers.append(answer)
    return answers.index(answer)


def smoothed(p: float, share: float) -> float:
    """A label of which ``share`` is taken to be flipped by chance (arXiv 2305.18290, and the conservative DPO of its authors)."""
    return p * (1 - share) + (1 - p) * share


def groups_key(groups: Sequence[PreferenceGroup]) -> str:
    """Digest of labelled elements, in order."""
    rows = (
        TokenizedExample(group.prompt_group.prompt, answer)
        for group in groups
        for answer in group.prompt_group.answers
    )
    return digest([rows_key(rows), [[list(label) for label in group.labels] for group in groups]])
