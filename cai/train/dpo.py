"""Direct preference optimisation: from labels to a policy without a reward model (arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cai.config import DPO, Training
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.heads import Policy
from cai.models.load import fingerprint
from cai.models.packing.layout import PackedBatch, pack
from cai.models.packing.padding import padding_id
from cai.records import Preference
from cai.rl.losses import dpo_loss, ipo_loss, token_logprobs
from cai.train.batching import bucket_by_length, epoch_batches
from cai.train.checkpoint import save
from cai.train.engine import Engine, StepLoss
from cai.train.load import load_policy, micro_batch_tokens_of
from cai.train.loop import Log, MicroBatch, first_and_last_decile, fit
from cai.train.model_card import model_card
from cai.train.resume import SAVE_EVERY, Resume
from cai.train.reward.dataset import (
    PreferenceGroup,
    build_preference_groups,
    flatten_pairs,
    groups_key,
)


def train_dpo(
    preferences: Sequence[Preference],
    base: str,
    out: Path,
    config: DPO,
    *,
    training: Training | None = None,
    chat_format: str = "",
    seed: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, float]:
    """Fine-tune ``base`` on labelled comparisons, with ``base`` as it starts for the reference, and save it to ``out``.

    All comparisons of a prompt stand in one element of a batch. Labels are soft; ``config.label_smoothing`` moves them towards
    one half (conservative DPO). The reference is read once, before the first step.
    """
    training = training or Training()
    policy, tokenizer = load_policy(base, training)
    chat, pad_id = ChatFormat(tokenizer, chat_format), padding_id(tokenizer)
    groups, left_out = build_preference_groups(
        preferences, chat, config.max_length, smoothing=config.label_smoothing
    )
    if not groups:
        raise InputError("there is no labelled pair to train on")
    by_mean, loss_of = (True, ipo_loss) if config.loss == "ipo" else (False, dpo_loss)
    reference = reference_logprobs(
        policy, groups, pad_id, mean=by_mean, tokens=micro_batch_tokens_of(training, policy.model)
    )
    sizes = [group.prompt_group.size for group in groups]
    plan = [
        batch
        for epoch in range(config.epochs)
        for batch in epoch_batches(sizes, config.batch_size, seed, "dpo", epoch)
    ]
    engine = Engine(policy, learning_rate=config.learning_rate, steps=len(plan))

    def loss(part: MicroBatch, batch: Sequence[int]) -> StepLoss:
        chosen = [groups[i] for i in part.rows]
        packed = pack(policy.model, [group.prompt_group for group in chosen], pad_id)
        now = answer_logprobs(engine.model(packed)[0], packed, mean=by_mean)
        before = torch.cat([reference[i] for i in part.rows]).to(now.device)
        first, second, labels = flatten_pairs(chosen, now.device)
        p = torch.tensor([label.p_first for label in labels], device=now.device)
        counts = torch.tensor(
            [n for e, n in zip(chosen, part.counts, strict=True) for _ in e.labels],
            device=now.device,
        )
        counts = counts / sum(len(groups[i].labels) for i in batch)
        each = loss_of(now[first], now[second], before[first], before[second], p, config.beta)
        moved = (now - before).detach()
        margin = config.beta * (moved[first] - moved[second]) * (2 * p - 1)
        return StepLoss((each * counts).sum(), {"margin": (margin * counts).sum()})

    made_from = [
        "dpo",
        fingerprint(base),
        config.model_dump(),
        training.model_dump(),
        chat_format,
        seed,
        groups_key(groups),
    ]
    resume = Resume(out, made_from, save_every)
    history = fit(
        engine,
        plan,
        sizes,
        loss,
        tokens=micro_batch_tokens_of(training, policy.model),
        resume=resume,
        log=log,
    )
    first, last = first_and_last_decile(history["loss"])
    metrics = {
        "pairs": sum(len(group.labels) for group in groups),
        "prompts": len(groups),
        **left_out,
        "steps": len(plan),
        "skipped_steps": engine.skipped,
        "loss_first": first,
        "loss_last": last,
        "margin_last": first_and_last_decile(history["margin"])[1],
    }
    save(engine, tokenizer, out, base, model_card("dpo", base, config, training, metrics))
    resume.clear()
    return metrics


def answer_logprobs(logits: Tensor, packed: PackedBatch, *, mean: bool = False) -> Tensor:
    """Log-probability ``[A]`` of each answer, summed over its tokens or (IPO) their mean."""
    sums = packed.sums(token_logprobs(logits, packed.targets))
    return sums / packed.lengths() if mean else sums


@torch.no_grad()
def reference_logprobs(
    policy: Policy,
    groups: Sequence[PreferenceGroup],
    pad_id: int,
    *,
    mean: bool = False,
    tokens: int = 1_024,
) -> list[Tensor]:
    """What the policy, as it is now, thinks of the answers of every element, on the CPU."""
    found: dict[int, Tensor] = {}
    for part in bucket_by_length([group.prompt_group.size for group in groups], tokens):
        packed = pack(policy.model, [groups[i].prompt_group for i in part], pad_id)
        values = answer_logprobs(policy(packed)[0], packed, mean=mean).cpu()
        found |= dict(
            zip(
                part, values.split([len(groups[i].prompt_group.answers) for i in part]), strict=True
            )
        )
    return [found[i] for i in range(len(groups))]
