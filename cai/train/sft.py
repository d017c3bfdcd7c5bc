"""Supervised fine-tuning: the SL half's last step (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cai.config import SFT
from cai.errors import InputError
from cai.models.chat import ChatFormat
from cai.models.load import fingerprint, load_language_model
from cai.models.project import next_token_logits
from cai.records import Prompt
from cai.rl.losses import language_model_loss, token_logprobs
from cai.train.batches import epoch_batches, pad, rows_key, tokenize
from cai.train.checkpoint import save
from cai.train.engine import Engine
from cai.train.resume import SAVE_EVERY, Resume

Log = Callable[[dict[str, float]], None]


def train_sft(
    rows: Sequence[tuple[Prompt, str]],
    base: str,
    out: Path,
    config: SFT,
    *,
    style: str = "",
    seed: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, float]:
    """Fine-tune ``base`` on (prompt, answer) rows and save it to ``out``; only answer tokens are learnt.

    The loss of a step is divided by the number of its answer tokens. Killed, it goes on from its last kept state
    (``save_every`` seconds). Returns rows, steps and first and last loss.
    """
    import torch

    language_model = load_language_model(base, dtype=torch.float32)
    model, tokenizer = language_model
    chat = ChatFormat(tokenizer, style)
    tokenized = [row for prompt, answer in rows if (row := tokenize(chat, prompt, answer, config.max_length))]
    if not tokenized:
        raise InputError("there is nothing to fine-tune on: no row fits into sft.max_length")
    lengths = [len(row.ids) for row in tokenized]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(lengths, config.batch_size, seed, "sft", epoch)]
    engine = Engine(model, rate=config.rate, steps=len(plan))
    model.train()
    resume = Resume(out, ["sft", fingerprint(base), config.model_dump(), style, seed, rows_key(tokenized)], save_every)
    kept = resume.load({"policy": engine})
    losses: list[float] = kept.get("losses", [])
    for number, batch in enumerate(plan[len(losses) :], start=len(losses) + 1):
        ids, mask, answer = pad([tokenized[i] for i in batch], int(tokenizer.pad_token_id), model.device)
        labels = answer[:, 1:]
        logprobs = token_logprobs(next_token_logits(engine.plain, ids, mask, labels), ids[:, 1:][labels])
        loss = language_model_loss(logprobs, torch.ones_like(logprobs), float(labels.sum()))
        norm = engine.step([loss])
        losses.append(loss.item())
        resume.save(number, {"policy": engine}, losses=losses)
        log({"step": number, "steps": len(plan), "loss": losses[-1], "grad_norm": norm})
    save(engine.plain, tokenizer, out)
    resume.clear()
    ends = max(1, len(losses) // 10)
    return {
        "rows": len(tokenized), "dropped_too_long": len(rows) - len(tokenized), "steps": len(plan), "skipped_steps": engine.skipped,
        "loss_first": sum(losses[:ends]) / ends, "loss_last": sum(losses[-ends:]) / ends,
    }  # fmt: skip
