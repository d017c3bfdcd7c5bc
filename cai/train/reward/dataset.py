"""Labeled comparisons as the reward model and DPO train on them: one group per prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cai.keys import digest
from cai.models.chat_template.format import ChatFormat
from cai.models.chat_template.unknown import count_with_unknown
from cai.models.packing.layout import PromptGroup
from cai.records import Preference
from cai.ties import is_near_tie
from cai.train.batching import TokenizedExample, rows_key, tokenize

DROPPED = ("dropped_unlabeled", "dropped_too_long", "dropped_identical", "dropped_weight_zero")
"""Why a comparison cannot be trained on: no label, too long, the same answer twice, weight 0."""


class PairLabel(NamedTuple):
    """A label of two answers of a group.

    Attributes:
        first: Index of the first answer in the group.
        second: Index of the second answer.
        p_first: Probability that the first answer is the better one.
        margin: By how much the score of the better answer should lead, in units of the score.
        weight: Weight of the label in the loss.
        source: Where the label came from.
        principle: The principle that speaks loudest for the label, if a judge gave it.
    """

    first: int
    second: int
    p_first: float
    margin: float = 0.0
    weight: float = 1.0
    source: str = ""
    principle: str = ""

    @property
    def is_clear(self) -> bool:
        """Whether the label says clearly which answer is better; only such labels can be right."""
        return not is_near_tie(self.p_first)


class PreferenceGroup(NamedTuple):
    """A prompt, the answers to it that were compared, and their labels.

    The labels may be of one pair, of a ranking, or of any pairs. All comparisons of a prompt stay
    in one batch: apart, a ranking of K answers would show each of them K - 1 times in an epoch, and
    the model would overfit (arXiv 2203.02155, section 3.4).

    Attributes:
        prompt: Id of the prompt.
        prompt_group: Tokens of the prompt and of its answers, each answer once.
        labels: The labels of pairs of answers.
    """

    prompt: str
    prompt_group: PromptGroup
    labels: list[PairLabel]


class PreferenceDataset(NamedTuple):
    """What can be trained on.

    Attributes:
        groups: The groups, in the order in which their prompts first appear.
        dropped: Number of comparisons that cannot be trained on, by reason.
    """

    groups: list[PreferenceGroup]
    dropped: dict[str, int]

    def why_empty(self) -> str:
        """Describe why there is nothing to train on: how many comparisons were dropped, and why."""
        reasons = [
            f"{count} {reason.removeprefix('dropped_').replace('_', ' ')}"
            for reason, count in self.dropped.items()
            if count
        ]
        return ", ".join(reasons) or "there are no preferences"


class PairBatch(NamedTuple):
    """The labels of some groups as tensors, ``[P]`` each.

    Attributes:
        first: Index of the first answer among the answers of all groups.
        second: Index of the second answer.
        p_first: Probability that the first answer is the better one.
        margin: By how much the score of the better answer should lead.
        weight: Weight of the label in the loss.
        is_clear: Whether the label says clearly which answer is better.
    """

    first: Tensor
    second: Tensor
    p_first: Tensor
    margin: Tensor
    weight: Tensor
    is_clear: Tensor


def build_preference_groups(
    preferences: Iterable[Preference],
    chat: ChatFormat,
    max_length: int,
    *,
    source_weights: Mapping[str, float] | None = None,
    smoothing: float = 0.0,
) -> PreferenceDataset:
    """Tokenize labeled comparisons, and group those of one prompt.

    Args:
        preferences: The comparisons.
        chat: How the model writes conversations.
        max_length: Maximum tokens of a prompt with one answer.
        source_weights: Weight of the labels of each source, 1 if it is not listed. Labels of a
            source with weight 0 are dropped.
        smoothing: Assumed probability that a label is wrong.
    """
    weights = source_weights or {}
    dropped = dict.fromkeys(DROPPED, 0)
    groups: dict[str, PreferenceGroup] = {}
    for preference in preferences:
        weight = weights.get(preference.source, 1.0)
        if preference.p_first is None:
            dropped["dropped_unlabeled"] += 1
            continue
        if not weight:
            dropped["dropped_weight_zero"] += 1
            continue
        comparison = preference.comparison
        first = tokenize(chat, comparison.prompt, comparison.first, max_length)
        second = tokenize(chat, comparison.prompt, comparison.second, max_length)
        if first is None or second is None:
            dropped["dropped_too_long"] += 1
            continue
        if first.answer == second.answer:
            dropped["dropped_identical"] += 1
            continue
        prompt_id = comparison.prompt.id
        if prompt_id not in groups:
            groups[prompt_id] = PreferenceGroup(prompt_id, PromptGroup(first.prompt, []), [])
        group = groups[prompt_id]
        group.labels.append(
            PairLabel(
                _index_of(group.prompt_group.answers, first.answer),
                _index_of(group.prompt_group.answers, second.answer),
                smoothed(preference.p_first, smoothing),
                preference.margin,
                weight,
                preference.source,
                _dominant_principle(preference),
            )
        )
    return PreferenceDataset(list(groups.values()), dropped)


def pairs_with_unknown_characters(preferences: Iterable[Preference], chat: ChatFormat) -> int:
    """Count the comparisons in which the tokenizer does not know some character.

    Args:
        preferences: The comparisons.
        chat: How the model writes conversations.
    """
    comparisons = (preference.comparison for preference in preferences)
    texts = (
        (c.first, c.second, *(turn.content for turn in c.prompt.messages)) for c in comparisons
    )
    return count_with_unknown(chat.tokenizer, texts)


def _index_of(answers: list[list[int]], answer: list[int]) -> int:
    """Return the index of an answer in a list, to which it is added if it is new."""
    if answer not in answers:
        answers.append(answer)
    return answers.index(answer)


def _dominant_principle(preference: Preference) -> str:
    """Name the principle whose judgment supports the label most; empty for labels of people."""
    side = 1 if (preference.p_first or 0) >= 0.5 else -1
    support = [
        (side * (judgment.p_first - 0.5), judgment.principle)
        for judgment in preference.judgments
        if judgment.p_first is not None
    ]
    return max(support)[1] if support else ""


def smoothed(p: float, smoothing: float) -> float:
    """Smooth a label that is wrong with some probability (conservative DPO, arXiv 2305.18290).

    Args:
        p: Probability that the first answer is the better one.
        smoothing: Probability that the label is the wrong way round.
    """
    return p * (1 - smoothing) + (1 - p) * smoothing


def pair_batch(
    groups: Sequence[PreferenceGroup],
    device: torch.device,
    row_weights: Sequence[float] | None = None,
) -> PairBatch:
    """Collect the labels of some groups as tensors.

    Args:
        groups: The groups, in the order in which their answers were packed.
        device: Where to put the tensors.
        row_weights: A weight per group, by which those of its labels are multiplied; None: 1.
    """
    first: list[int] = []
    second: list[int] = []
    labels: list[PairLabel] = []
    weights: list[float] = []
    answers_before = 0
    for group, row_weight in zip(groups, row_weights or [1.0] * len(groups), strict=True):
        for label in group.labels:
            first.append(answers_before + label.first)
            second.append(answers_before + label.second)
            labels.append(label)
            weights.append(label.weight * row_weight)
        answers_before += len(group.prompt_group.answers)
    return PairBatch(
        torch.tensor(first, dtype=torch.long, device=device),
        torch.tensor(second, dtype=torch.long, device=device),
        torch.tensor([label.p_first for label in labels], device=device),
        torch.tensor([label.margin for label in labels], device=device),
        torch.tensor(weights, device=device),
        torch.tensor([label.is_clear for label in labels], device=device),
    )


def share_of_accuracy(lead_P: Tensor, pairs: PairBatch, batch: Sequence[PreferenceGroup]) -> Tensor:
    """Compute what some pairs add to the accuracy of their batch, which is over clear labels.

    Args:
        lead_P: By how much the first answer of each pair leads.
        pairs: Their labels.
        batch: The groups of the whole batch.

    Returns:
        A scalar; the shares of all micro-batches add up. A tie counts half. NaN if the batch has no
        clear label.
    """
    clear_weight = sum(label.weight for group in batch for label in group.labels if label.is_clear)
    if not clear_weight:
        return lead_P.new_tensor(torch.nan)
    is_right = (1 + torch.sign(lead_P.detach() * (pairs.p_first - 0.5))) / 2
    return (is_right * pairs.weight * pairs.is_clear).sum() / clear_weight


def groups_key(groups: Sequence[PreferenceGroup]) -> str:
    """Compute a digest of groups with their labels, and of their order."""
    examples = (
        TokenizedExample(group.prompt_group.prompt, answer)
        for group in groups
        for answer in group.prompt_group.answers
    )
    labels = [[list(label) for label in group.labels] for group in groups]
    return digest([rows_key(examples), labels])
