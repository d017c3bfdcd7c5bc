"""Direct preference optimization: train a policy on labels directly (arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cai.config import DPO
from cai.errors import InputError
from cai.files import StrPath
from cai.models.heads import Policy
from cai.models.packing.layout import PackedBatch, pack
from cai.records import Preference
from cai.rl.losses import dpo_loss, ipo_loss, token_logprobs
from cai.train.batching import bucket_by_length
from cai.train.engine import StepLoss
from cai.train.load import micro_batch_tokens_of
from cai.train.loop import LossFunction, MicroBatch, first_and_last_decile
from cai.train.options import TrainerOptions
from cai.train.reward.dataset import (
    PreferenceGroup,
    build_preference_groups,
    groups_key,
    pair_batch,
)
from cai.train.trainer import Trainer, TrainerSetup


def train_dpo(
    preferences: Sequence[Preference],
    base: StrPath,
    out: StrPath,
    config: DPO,
    *,
    options: TrainerOptions | None = None,
) -> dict[str, float]:
    """Optimize a policy on labeled comparisons, with the policy as it starts for the reference.

    All comparisons of a prompt are in one batch. An interrupted training continues from its last
    saved state when it is started again.

    Args:
        preferences: Labeled comparisons; those without a label are counted and left out.
        base: Model to start from: ``reference``, a folder, or a hub id.
        out: Folder to save the trained model to.
        config: Settings of the training.
        options: Options that all trainers share; None: their defaults.

    Returns:
        ``pairs`` and ``prompts`` trained on, comparisons dropped by reason, ``steps``,
        ``skipped_steps``, ``loss_first`` and ``loss_last`` as after SFT, and ``margin_last``, the
        mean lead of the better answer's implicit reward in the last tenth of the steps.

    Raises:
        InputError: If no comparison can be trained on.
        RunFailed: If training diverges.
    """
    setup = TrainerSetup.of("dpo", base, out, config, options)
    policy, chat = setup.load_policy()
    dataset = build_preference_groups(
        preferences, chat, config.max_length, smoothing=config.label_smoothing
    )
    groups = dataset.groups
    if not groups:
        raise InputError(f"there is no labeled pair to train on: {dataset.why_empty()}")
    # read once, before the first step: the policy is its own reference, without a second copy
    max_tokens = micro_batch_tokens_of(setup.options.training, policy.model)
    by_mean, pad_id = config.loss == "ipo", chat.pad_id
    reference = reference_logprobs(policy, groups, pad_id, mean=by_mean, max_tokens=max_tokens)
    lengths = [group.prompt_group.size for group in groups]
    trainer = Trainer(setup, policy, chat, lengths=lengths, data_key=groups_key(groups))

    history = trainer.fit(_loss_function(trainer, groups, reference, config))
    _, margin_last = first_and_last_decile(history["margin"])
    metrics = {
        "pairs": sum(len(group.labels) for group in groups),
        "prompts": len(groups),
        **dataset.dropped,
        **trainer.metrics(history),
        "margin_last": margin_last,
    }
    trainer.save(metrics)
    return metrics


def _loss_function(
    trainer: Trainer, groups: Sequence[PreferenceGroup], reference: Sequence[Tensor], config: DPO
) -> LossFunction:
    """Make the loss of a micro-batch.

    Args:
        trainer: The trainer of the policy.
        groups: The labeled answers, by prompt.
        reference: Log-probabilities of the answers of each group under the reference, ``[A]``.
        config: The loss and its ``beta``.
    """
    is_ipo = config.loss == "ipo"
    loss_of_pairs = ipo_loss if is_ipo else dpo_loss

    def loss(micro_batch: MicroBatch, batch: Sequence[int]) -> StepLoss:
        """Sum the losses of the pairs, divided by the number of pairs in the batch."""
        rows = [groups[row] for row in micro_batch.rows]
        packed = trainer.pack(group.prompt_group for group in rows)
        logits, _ = trainer.engine.model(packed)
        now = sequence_logprobs(logits, packed, mean=is_ipo)
        before = torch.cat([reference[row] for row in micro_batch.rows]).to(now.device)
        pairs = pair_batch(rows, now.device, micro_batch.weights)
        weight = pairs.weight / sum(len(groups[row].labels) for row in batch)
        losses = loss_of_pairs(
            now[pairs.first],
            now[pairs.second],
            before[pairs.first],
            before[pairs.second],
            pairs.p_first,
            config.beta,
        )
        log_ratio = (now - before).detach()
        lead = config.beta * (log_ratio[pairs.first] - log_ratio[pairs.second])
        margin = lead * (2 * pairs.p_first - 1)
        return StepLoss((losses * weight).sum(), {"margin": (margin * weight).sum()})

    return loss


def sequence_logprobs(logits: Tensor, packed: PackedBatch, *, mean: bool = False) -> Tensor:
    """Compute the log-probability of each answer.

    Args:
        logits: Logits that predict the answers' tokens, ``[N, V]``.
        packed: The batch that they were computed for.
        mean: Divide by the number of tokens (IPO) instead of summing over them (DPO).

    Returns:
        One log-probability per answer, ``[A]``.
    """
    sums = packed.sums(token_logprobs(logits, packed.targets))
    return sums / packed.lengths() if mean else sums


@torch.no_grad()
def reference_logprobs(
    policy: Policy,
    groups: Sequence[PreferenceGroup],
    pad_id: int,
    *,
    mean: bool = False,
    max_tokens: int = 1_024,
) -> list[Tensor]:
    """Compute the log-probabilities of all answers under the policy as it is now.

    Args:
        policy: The policy.
        groups: The answers, by prompt.
        pad_id: Token id to pad rows with.
        mean: As in :func:`sequence_logprobs`.
        max_tokens: Maximum tokens to read at once, padding included.

    Returns:
        For each group the log-probabilities of its answers, ``[A]``, on the CPU.
    """
    logprobs: dict[int, Tensor] = {}
    for rows in bucket_by_length([group.prompt_group.size for group in groups], max_tokens):
        packed = pack(policy.model, [groups[row].prompt_group for row in rows], pad_id)
        logits, _ = policy(packed)
        values = sequence_logprobs(logits, packed, mean=mean).cpu()
        answers = [len(groups[row].prompt_group.answers) for row in rows]
        logprobs |= zip(rows, torch.split(values, answers), strict=True)
    return [logprobs[row] for row in range(len(groups))]
