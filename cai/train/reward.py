"""The reward model: pairwise loss with soft labels, for human and AI labels alike (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cai.config import Reward
from cai.errors import InputError
from cai.keys import seed_for, uniform
from cai.models.chat import ChatFormat
from cai.models.load import fingerprint
from cai.models.scalar import ScalarModel, load_scalar_model, text_scores
from cai.records import Preference, Prompt
from cai.rl.losses import preference_loss
from cai.train.batches import Answered, epoch_batches, pad, tokenize
from cai.train.checkpoint import save
from cai.train.engine import Engine
from cai.train.pairs import Pair, labelled_pairs, pairs_key
from cai.train.resume import SAVE_EVERY, Resume

Log = Callable[[dict[str, float]], None]
CLEAR = 0.1
"""How far from one half a label must be to count when accuracy is measured."""


def train_reward(
    preferences: Sequence[Preference], base: str, out: Path, config: Reward, *, style: str = "", seed: int = 0,
    log: Log = lambda _: None, save_every: float = SAVE_EVERY,
) -> dict[str, float]:  # fmt: skip
    """Train a reward model on labelled comparisons and save it to ``out``.

    Where a label came from is never looked at. Prompts of a keyed share ``config.held_out`` are kept for measuring. The
    scores are then shifted and scaled to mean 0 and deviation 1 over the answers of the training pairs; both numbers stand
    in the saved config.
    """
    torch.manual_seed(seed_for(seed, "reward head"))
    scalar = load_scalar_model(base, new_head=True)
    model, tokenizer = scalar
    chat = ChatFormat(tokenizer, style)
    pairs, unlabelled, too_long = labelled_pairs(preferences, chat, config.max_length)
    held = [pair for pair in pairs if uniform(seed, "held out", pair.prompt) < config.held_out]
    kept = [pair for pair in pairs if uniform(seed, "held out", pair.prompt) >= config.held_out]
    train = [pair for pair in kept if abs(pair.p_first - 0.5) >= config.least_margin]
    if not train:
        raise InputError("there is no labelled pair to train a reward model on")
    lengths = [pair.length for pair in train]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(lengths, config.batch_size, seed, "reward", epoch)]
    engine = Engine(model, rate=config.rate, steps=len(plan))
    model.train()
    made_from = ["reward", fingerprint(base), config.model_dump(), style, seed, pairs_key(train)]
    resume = Resume(out, made_from, save_every)
    done = resume.load({"reward": engine}).get("done", 0)
    for number, batch in enumerate(plan[done:], start=done + 1):
        chosen = [train[i] for i in batch]
        padded = pad([p.first for p in chosen] + [p.second for p in chosen], int(tokenizer.pad_token_id), model.device)
        scores = text_scores(engine.model, padded.ids, padded.mask)
        labels = torch.tensor([p.p_first for p in chosen], device=scores.device)
        loss = preference_loss(scores[: len(batch)], scores[len(batch) :], labels).mean()
        norm = engine.step([loss])
        resume.save(number, {"reward": engine})
        log({"step": number, "steps": len(plan), "loss": loss.item(), "grad_norm": norm})
    plain = engine.plain.eval()
    everything = score_rows(scalar, [row for pair in train for row in (pair.first, pair.second)])
    plain.config.reward_mean, plain.config.reward_std = float(everything.mean()), float(everything.std().clamp(min=1e-3))
    save(plain, tokenizer, out)
    resume.clear()
    return {
        "pairs": len(train), "near_ties_left_out": len(kept) - len(train), "unlabelled": unlabelled, "dropped_too_long": too_long,
        "skipped_steps": engine.skipped, "held_out": len(held), "held_out_accuracy": accuracy(scalar, held),
    }  # fmt: skip


def accuracy(scalar: ScalarModel, pairs: Sequence[Pair]) -> float:
    """Share of clearly labelled pairs whose better answer scores higher; one half where there is none."""
    clear = [pair for pair in pairs if abs(pair.p_first - 0.5) > CLEAR]
    if not clear:
        return 0.5
    first, second = score_rows(scalar, [pair.first for pair in clear]), score_rows(scalar, [pair.second for pair in clear])
    right = (first > second) == torch.tensor([pair.p_first > 0.5 for pair in clear])
    return float(right.float().mean())


@torch.inference_mode()
def score_rows(scalar: ScalarModel, rows: Sequence[Answered], batch_size: int = 128) -> torch.Tensor:
    """The score ``[N]`` of each row, on the CPU, in order."""
    model, tokenizer = scalar
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    scores = torch.empty(len(rows))
    for at in range(0, len(order), batch_size):
        part = order[at : at + batch_size]
        padded = pad([rows[i] for i in part], int(tokenizer.pad_token_id), model.device)
        scores[part] = text_scores(model, padded.ids, padded.mask).cpu()
    return scores


def score_texts(scalar: ScalarModel, items: Sequence[tuple[Prompt, str]], style: str = "") -> torch.Tensor:
    """The reward ``[N]`` of each (prompt, answer)."""
    chat = ChatFormat(scalar.tokenizer, style)
    rows = [tokenize(chat, prompt, answer, 1 << 20) for prompt, answer in items]
    return score_rows(scalar, [row for row in rows if row])
