"""The reward model: pairwise loss with soft labels, for human and AI labels alike (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cai.config import Reward, Training
from cai.errors import InputError
from cai.keys import seed_for, uniform
from cai.models.chat_template.format import ChatFormat
from cai.models.load import context_length, default_micro_batch_tokens, fingerprint
from cai.models.packing.layout import PromptGroup, pack
from cai.models.packing.padding import padding_id
from cai.models.scalar import ScalarModel, answer_scores
from cai.records import Preference, Prompt
from cai.rl.losses import preference_loss
from cai.train.batching import (
    ANY_LENGTH,
    TokenizedExample,
    bucket_by_length,
    epoch_batches,
    tokenize,
)
from cai.train.checkpoint import save
from cai.train.engine import Engine, StepLoss
from cai.train.load import load_scalar, micro_batch_tokens_of
from cai.train.loop import Log, MicroBatch, fit
from cai.train.model_card import model_card
from cai.train.resume import SAVE_EVERY, Resume
from cai.train.reward.dataset import (
    PreferenceGroup,
    build_preference_groups,
    flatten_pairs,
    groups_key,
)
from cai.train.reward.format_bias import STYLE_TIE, format_bias_metrics, style_ties
from cai.train.reward.metrics import eval_metrics


def train_reward(
    preferences: Sequence[Preference],
    base: str,
    out: Path,
    config: Reward,
    *,
    training: Training | None = None,
    chat_format: str = "",
    seed: int = 0,
    member: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, float]:
    """Train a reward model on labelled comparisons and save it to ``out``.

    All comparisons of a prompt stand in one element of a batch, each answer is read once. Where a label came from is looked at
    only for ``config.source_weights``. Prompts of a keyed share ``config.eval_fraction`` are kept for measuring (``eval_metrics``).
    The scores are then shifted and scaled to mean 0 and deviation 1 over the answers of the training pairs; both numbers stand
    in the saved config. ``member`` is the number within an ensemble: another head to start with, another order of the rows.
    """
    training = training or Training()
    key = [seed, *(["member", member] if member else [])]
    torch.manual_seed(seed_for(*key, "reward head"))
    scalar, tokenizer = load_scalar(base, training, new_head=True)
    # the base may be a reward model itself, with the mean and deviation of another head in its config
    scalar.model.config.reward_mean, scalar.model.config.reward_std = 0.0, 1.0
    chat, pad_id = ChatFormat(tokenizer, chat_format), padding_id(tokenizer)

    def kept_back(prompt: str) -> bool:
        return uniform(seed, "held out", prompt) < config.eval_fraction

    even = style_ties(
        [p for p in preferences if not kept_back(p.comparison.prompt.id)],
        config.format_augmentation,
        seed,
    )
    labels = [*preferences, *even]
    groups, left_out = build_preference_groups(
        labels,
        chat,
        config.max_length,
        weights=config.source_weights,
        smoothing=config.label_smoothing,
    )
    held = [group for group in groups if kept_back(group.prompt)]
    kept = [group for group in groups if not kept_back(group.prompt)]
    train = [
        told for group in kept if (told := _without_near_ties(group, config.min_margin)).labels
    ]
    if not train:
        raise InputError("there is no labelled pair to train a reward model on")
    if all(label.p_first == 0.5 for group in train for label in group.labels):
        raise InputError("there is nothing to learn for a reward model: all labels are one half")
    sizes = [group.prompt_group.size for group in train]
    plan = [
        batch
        for epoch in range(config.epochs)
        for batch in epoch_batches(sizes, config.batch_size, *key, "reward", epoch)
    ]
    engine = Engine(scalar, learning_rate=config.learning_rate, steps=len(plan))
    worth = length_coefficient(train) if config.length_control else 0.0

    def loss(part: MicroBatch, batch: Sequence[int]) -> StepLoss:
        chosen = [train[i] for i in part.rows]
        packed = pack(scalar.model, [group.prompt_group for group in chosen], pad_id)
        first, second, labels = flatten_pairs(chosen, scalar.model.device)
        scores = engine.model(packed)
        p, margin, weight = (
            torch.tensor([getattr(e, n) for e in labels], device=scores.device)
            for n in ("p_first", "margin", "weight")
        )
        scores = scores + worth * packed.lengths()
        each = preference_loss(scores[first], scores[second], p, margin)
        share = _shares(chosen, part.counts, config.weight_by_prompt).to(scores.device) * weight
        return StepLoss(
            (each * share).sum() / _whole([train[i] for i in batch], config.weight_by_prompt)
        )

    made_from = [
        "reward",
        fingerprint(base),
        config.model_dump(),
        training.model_dump(),
        chat_format,
        key,
        groups_key(train),
    ]
    resume = Resume(out, made_from, save_every)
    fit(
        engine,
        plan,
        sizes,
        loss,
        tokens=micro_batch_tokens_of(training, scalar.model),
        resume=resume,
        log=log,
    )
    model, found = scalar.model.eval(), ScalarModel(scalar.model, tokenizer)
    with engine.summon_full_params():
        everything = score_trees(found, [group.prompt_group for group in train])
        model.config.reward_mean, model.config.reward_std = (
            float(everything.mean()),
            float(everything.std().clamp(min=1e-3)),
        )
        metrics = eval_metrics(
            score_trees(found, [group.prompt_group for group in held]),
            held,
            model.config.reward_std,
        )
        unseen = [p for p in preferences if kept_back(p.comparison.prompt.id)]
        styled = format_bias_metrics(
            lambda rows: score_rows(found, rows), unseen, chat, context_length(model), seed
        )
    pairs, every = (sum(len(group.labels) for group in group) for group in (train, kept))
    turned = [way["turned"] for way in styled.values() if "turned" in way]
    metrics = {
        "pairs": pairs,
        "prompts": len(train),
        "near_ties_left_out": every - pairs,
        **left_out,
        "skipped_steps": engine.skipped,
        **({"length_coefficient": worth} if config.length_control else {}),
        **metrics,
        **({"format_bias": styled} if styled else {}),
        **({"dressed_turned": max(turned)} if turned else {}),
    }
    save(engine, tokenizer, out, base, model_card("reward", base, config, training, metrics))
    resume.clear()
    return metrics


def length_coefficient(groups: Sequence[PreferenceGroup]) -> float:
    """What a token more is worth to whoever labelled, in log-odds: the logistic fit of the labels on the answers' lengths alone.

    Added to the scores while they are learnt and left away after, it takes the liking for long answers upon itself.
    """
    labels = [
        (e, len(el.prompt_group.answers[e.first]) - len(el.prompt_group.answers[e.second]))
        for el in groups
        for e in el.labels
    ]
    longer, p, weight = (
        torch.tensor(v, dtype=torch.float64)
        for v in zip(*((d, e.p_first, e.weight) for e, d in labels), strict=True)
    )
    worth = torch.zeros((), dtype=torch.float64)
    for _ in range(50):  # Newton's method; the loss is convex in the one unknown
        said = torch.sigmoid(worth * longer)
        curvature = (weight * longer**2 * said * (1 - said)).sum()
        worth = worth - (weight * longer * (said - p)).sum() / curvature.clamp(min=1e-9)
    return float(worth.clamp(-1, 1))


def _shares(groups: Sequence[PreferenceGroup], counts: Sequence[float], per_prompt: bool) -> Tensor:
    """How much each label counts, ``[P]``: all alike, or all prompts alike."""
    return torch.tensor(
        [
            n / (len(e.labels) if per_prompt else 1)
            for e, n in zip(groups, counts, strict=True)
            for _ in e.labels
        ]
    )


def _whole(groups: Sequence[PreferenceGroup], per_prompt: bool) -> float:
    """What the weights of a batch add up to."""
    return sum(
        label.weight / (len(e.labels) if per_prompt else 1) for e in groups for label in e.labels
    )


def _without_near_ties(group: PreferenceGroup, least: float) -> PreferenceGroup:
    """The element with its telling labels, and of its answers those that one of them is about."""
    labels = [
        label
        for label in group.labels
        if abs(label.p_first - 0.5) >= least or label.source == STYLE_TIE
    ]
    used = sorted({i for label in labels for i in (label.first, label.second)})
    labels = [
        label._replace(first=used.index(label.first), second=used.index(label.second))
        for label in labels
    ]
    return PreferenceGroup(
        group.prompt,
        PromptGroup(group.prompt_group.prompt, [group.prompt_group.answers[i] for i in used]),
        labels,
    )


# -- scoring -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def score_trees(scalar: ScalarModel, prompt_groups: Sequence[PromptGroup]) -> Tensor:
    """The score ``[A]`` of every answer of every tree, on the CPU, in order."""
    model, tokenizer = scalar
    starts = [0]
    for prompt_group in prompt_groups:
        starts.append(starts[-1] + len(prompt_group.answers))
    scores = torch.empty(starts[-1])
    for part in bucket_by_length(
        [prompt_group.size for prompt_group in prompt_groups],
        default_micro_batch_tokens(model.device),
    ):
        places = [place for i in part for place in range(starts[i], starts[i + 1])]
        scores[places] = answer_scores(
            model, pack(model, [prompt_groups[i] for i in part], padding_id(tokenizer))
        ).cpu()
    return scores


def score_rows(scalar: ScalarModel, rows: Sequence[TokenizedExample]) -> Tensor:
    """The score ``[N]`` of each row, on the CPU, in order."""
    return score_trees(scalar, [row.prompt_group for row in rows])


def score_texts(
    scalar: ScalarModel, items: Sequence[tuple[Prompt, str]], chat_format: str = ""
) -> Tensor:
    """The reward ``[N]`` of each (prompt, answer)."""
    chat = ChatFormat(scalar.tokenizer, chat_format)
    rows = [tokenize(chat, prompt, answer, ANY_LENGTH) for prompt, answer in items]
    return score_rows(scalar, [row for row in rows if row])
