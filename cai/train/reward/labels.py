"""Prepare the labels of a reward model: which to train on, which to hold out, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from cai.config import Reward
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.packing.layout import PromptGroup
from cai.records import Preference
from cai.train.held_out import is_held_out
from cai.train.reward.dataset import PairLabel, PreferenceGroup, build_preference_groups
from cai.train.reward.format_bias import STYLE_TIE, style_ties

NEWTON_STEPS = 50
"""Steps of Newton's method; the loss is convex in its one unknown, so a few would do."""


class RewardLabels(NamedTuple):
    """The labels of a reward model.

    Attributes:
        train: Groups to train on, with the final weights of their labels.
        held_out: Groups of held-out prompts.
        held_out_preferences: The comparisons of held-out prompts, as texts.
        length_coefficient: What one more token is worth to the annotators, in log-odds.
        dropped: Number of comparisons that are not trained on, by reason.
    """

    train: list[PreferenceGroup]
    held_out: list[PreferenceGroup]
    held_out_preferences: list[Preference]
    length_coefficient: float
    dropped: dict[str, int]


def prepare_labels(
    preferences: Sequence[Preference], chat: ChatFormat, config: Reward, seed: int
) -> RewardLabels:
    """Divide labels into those to train on and those held out, by prompt.

    Args:
        preferences: Comparisons, with or without a label.
        chat: How the model writes conversations.
        config: ``eval_fraction``, ``format_augmentation``, ``min_margin`` and the weights.
        seed: Seed of the choice of held-out prompts and of reformatted answers.

    Raises:
        InputError: If there is no label to train on, or all labels say that both answers are
            equally good.
    """

    def held_out(prompt_id: str) -> bool:
        return is_held_out(prompt_id, config.eval_fraction, seed)

    held_out_preferences = [p for p in preferences if held_out(p.comparison.prompt.id)]
    train_preferences = [p for p in preferences if not held_out(p.comparison.prompt.id)]
    ties = style_ties(train_preferences, config.format_augmentation, seed)
    dataset = build_preference_groups(
        [*preferences, *ties],
        chat,
        config.max_length,
        source_weights=config.source_weights,
        smoothing=config.label_smoothing,
    )
    candidates = [group for group in dataset.groups if not held_out(group.prompt)]
    selected = [without_near_ties(group, config.min_margin) for group in candidates]
    train = [group for group in selected if group.labels]
    near_ties = count_labels(candidates) - count_labels(train)
    dropped = {"dropped_near_ties": near_ties, **dataset.dropped}
    if not train:
        reasons = dataset._replace(dropped=dropped).why_empty()
        raise InputError(f"there is no labeled pair to train a reward model on: {reasons}")
    if all(label.p_first == 0.5 for group in train for label in group.labels):
        raise InputError("a reward model cannot learn anything: all labels are one half")
    return RewardLabels(
        [weighted_by_prompt(group) for group in train] if config.weight_by_prompt else train,
        [group for group in dataset.groups if held_out(group.prompt)],
        held_out_preferences,
        length_coefficient(train) if config.length_control else 0.0,
        dropped,
    )


def count_labels(groups: Sequence[PreferenceGroup]) -> int:
    """Count the labels of some groups."""
    return sum(len(group.labels) for group in groups)


def without_near_ties(group: PreferenceGroup, min_margin: float) -> PreferenceGroup:
    """Leave out labels close to one half, and answers that no label is about any more.

    Args:
        group: The group.
        min_margin: How far from one half a label must be; style ties stay in any case.
    """
    labels = [
        label
        for label in group.labels
        if abs(label.p_first - 0.5) >= min_margin or label.source == STYLE_TIE
    ]
    used = sorted({index for label in labels for index in (label.first, label.second)})
    renumbered = [
        label._replace(first=used.index(label.first), second=used.index(label.second))
        for label in labels
    ]
    answers = [group.prompt_group.answers[index] for index in used]
    return PreferenceGroup(
        group.prompt, PromptGroup(group.prompt_group.prompt, answers), renumbered
    )


def weighted_by_prompt(group: PreferenceGroup) -> PreferenceGroup:
    """Divide the weights of a group's labels by their number (arXiv 2203.02155, equation 1)."""
    count = len(group.labels)
    return group._replace(
        labels=[label._replace(weight=label.weight / count) for label in group.labels]
    )


def length_coefficient(groups: Sequence[PreferenceGroup]) -> float:
    """Fit what one more token is worth to the annotators, in log-odds.

    This is the logistic regression of the labels on the difference in length alone. Added to the
    scores during training and left out afterwards, it keeps a preference for long answers out of
    the reward model.

    Args:
        groups: The labels.

    Returns:
        The coefficient, limited to [-1, 1].
    """
    labels: list[PairLabel] = []
    extra: list[int] = []
    for group in groups:
        lengths = [len(answer) for answer in group.prompt_group.answers]
        labels += group.labels
        extra += [lengths[label.first] - lengths[label.second] for label in group.labels]
    extra_P = torch.tensor(extra, dtype=torch.float64)
    label_P = torch.tensor([label.p_first for label in labels], dtype=torch.float64)
    weight_P = torch.tensor([label.weight for label in labels], dtype=torch.float64)
    coefficient = torch.zeros((), dtype=torch.float64)
    for _ in range(NEWTON_STEPS):
        predicted_P = torch.sigmoid(coefficient * extra_P)
        gradient = (weight_P * extra_P * (predicted_P - label_P)).sum()
        curvature = (weight_P * extra_P**2 * predicted_P * (1 - predicted_P)).sum()
        coefficient = coefficient - gradient / curvature.clamp(min=1e-9)
    return float(coefficient.clamp(-1, 1))
