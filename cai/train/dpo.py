"""Direct preference optimisation: from labels to a policy without a reward model (arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai.config import DPO
from cai.errors import InputError
from cai.models.chat import ChatFormat
from cai.models.load import fingerprint, load_language_model
from cai.models.project import next_token_logits
from cai.records import Preference
from cai.rl.losses import dpo_loss, ipo_loss, token_logprobs
from cai.train.batches import epoch_batches, pad
from cai.train.checkpoint import save
from cai.train.engine import Engine
from cai.train.pairs import Pair, labelled_pairs, pairs_key
from cai.train.resume import SAVE_EVERY, Resume

Log = Callable[[dict[str, float]], None]


def train_dpo(
    preferences: Sequence[Preference],
    base: str,
    out: Path,
    config: DPO,
    *,
    style: str = "",
    seed: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, float]:
    """Fine-tune ``base`` on labelled comparisons, with ``base`` as it starts for the reference, and save it to ``out``.

    Labels are soft; ``config.label_smoothing`` moves them towards one half (conservative DPO). The reference is read once,
    before the first step.
    """
    model, tokenizer = load_language_model(base, dtype=torch.float32)
    chat, pad_id = ChatFormat(tokenizer, style), int(tokenizer.pad_token_id)
    pairs, unlabelled, too_long = labelled_pairs(preferences, chat, config.max_length)
    pairs = [pair._replace(p_first=smoothed(pair.p_first, config.label_smoothing)) for pair in pairs]
    if not pairs:
        raise InputError("there is no labelled pair to train on")
    by_mean, loss_of = (True, ipo_loss) if config.loss == "ipo" else (False, dpo_loss)
    reference = reference_logprobs(model, pairs, config.batch_size, pad_id, mean=by_mean)
    lengths = [pair.length for pair in pairs]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(lengths, config.batch_size, seed, "dpo", epoch)]
    engine = Engine(model, rate=config.rate, steps=len(plan))
    model.train()
    resume = Resume(out, ["dpo", fingerprint(base), config.model_dump(), style, seed, pairs_key(pairs)], save_every)
    kept = resume.load({"policy": engine})
    losses, margins = list[float](kept.get("losses", [])), list[float](kept.get("margins", []))
    for number, batch in enumerate(plan[len(losses) :], start=len(losses) + 1):
        chosen = [pairs[i] for i in batch]
        labels = torch.tensor([pair.p_first for pair in chosen], device=model.device)
        policy = pair_logprobs(engine.plain, chosen, pad_id, mean=by_mean)
        before = reference[batch].to(model.device)
        loss = loss_of(policy[:, 0], policy[:, 1], before[:, 0], before[:, 1], labels, config.beta).mean()
        norm = engine.step([loss])
        moved = (policy - before).detach()
        losses.append(loss.item())
        margins.append(float((config.beta * (moved[:, 0] - moved[:, 1]) * (2 * labels - 1)).mean()))
        resume.save(number, {"policy": engine}, losses=losses, margins=margins)
        log({"step": number, "steps": len(plan), "loss": losses[-1], "margin": margins[-1], "grad_norm": norm})
    save(engine.plain, tokenizer, out)
    resume.clear()
    ends = max(1, len(losses) // 10)
    return {
        "pairs": len(pairs), "unlabelled": unlabelled, "dropped_too_long": too_long, "steps": len(plan), "skipped_steps": engine.skipped,
        "loss_first": sum(losses[:ends]) / ends, "loss_last": sum(losses[-ends:]) / ends, "margin_last": sum(margins[-ends:]) / ends,
    }  # fmt: skip


def smoothed(p: float, share: float) -> float:
    """A label of which ``share`` is taken to be flipped by chance (conservative DPO)."""
    return p * (1 - share) + (1 - p) * share


def pair_logprobs(model: PreTrainedModel, pairs: Sequence[Pair], pad_id: int, *, mean: bool = False) -> Tensor:
    """Log-probability ``[B, 2]`` of the first and the second answer of each pair, summed over tokens or (IPO) their mean."""
    ids, mask, answer = pad([pair.first for pair in pairs] + [pair.second for pair in pairs], pad_id, model.device)
    wanted = answer[:, 1:]
    tokens = token_logprobs(next_token_logits(model, ids, mask, wanted), ids[:, 1:][wanted])
    per_row = tokens.new_zeros(wanted.shape).masked_scatter(wanted, tokens).sum(1)
    if mean:
        per_row = per_row / wanted.sum(1)
    return per_row.view(2, -1).T


@torch.no_grad()
def reference_logprobs(model: PreTrainedModel, pairs: Sequence[Pair], batch_size: int, pad_id: int, *, mean: bool = False) -> Tensor:
    """What the model, as it is now, thinks of both answers of every pair, ``[N, 2]`` on the CPU."""
    found = torch.empty(len(pairs), 2)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].first.ids) + len(pairs[i].second.ids))
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        found[part] = pair_logprobs(model, [pairs[i] for i in part], pad_id, mean=mean).cpu()
    return found
