"""Supervised fine-tuning: the SL half's last step (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cai.config import SFT, Training
from cai.errors import InputError
from cai.models.chat import ChatFormat
from cai.models.forest import plant
from cai.models.load import fingerprint
from cai.models.padding import padding_id
from cai.records import Prompt
from cai.rl.losses import language_model_loss, token_logprobs
from cai.train.batches import epoch_batches, rows_key, tokenize
from cai.train.card import model_card
from cai.train.checkpoint import save
from cai.train.engine import Engine, Part
from cai.train.loop import Log, Pass, ends, fit
from cai.train.opening import open_policy, tokens_of
from cai.train.resume import SAVE_EVERY, Resume


def train_sft(
    rows: Sequence[tuple[Prompt, str]], base: str, out: Path, config: SFT, *, training: Training | None = None, style: str = "",
    seed: int = 0, log: Log = lambda _: None, save_every: float = SAVE_EVERY,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune ``base`` on (prompt, answer) rows and save it to ``out``; only answer tokens are learnt.

    The loss of a step is divided by the number of its answer tokens. Killed, it goes on from its last kept state
    (``save_every`` seconds). Returns rows, steps and first and last loss.
    """
    training = training or Training()
    policy, tokenizer = open_policy(base, training)
    chat, pad_id = ChatFormat(tokenizer, style), padding_id(tokenizer)
    tokenized = [row for prompt, answer in rows if (row := tokenize(chat, prompt, answer, config.max_length))]
    if not tokenized:
        raise InputError("there is nothing to fine-tune on: no row fits into sft.max_length")
    sizes = [len(row.ids) for row in tokenized]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(sizes, config.batch_size, seed, "sft", epoch)]
    engine = Engine(policy, rate=config.rate, steps=len(plan))

    def loss(part: Pass, batch: Sequence[int]) -> Part:
        forest = plant(policy.model, [tokenized[i].tree for i in part.rows], pad_id)
        logits, _ = engine.model(forest)
        counted = torch.tensor(part.counts, device=logits.device)[forest.owner]
        in_batch = sum(len(tokenized[i].answer) for i in batch)
        return Part(language_model_loss(token_logprobs(logits, forest.targets), counted, in_batch))

    made_from = ["sft", fingerprint(base), config.model_dump(), training.model_dump(), style, seed, rows_key(tokenized)]
    resume = Resume(out, made_from, save_every)
    history = fit(engine, plan, sizes, loss, tokens=tokens_of(training, policy.model), resume=resume, log=log)
    first, last = ends(history["loss"])
    figures = {
        "rows": len(tokenized), "dropped_too_long": len(rows) - len(tokenized), "steps": len(plan), "skipped_steps": engine.skipped,
        "loss_first": first, "loss_last": last,
    }  # fmt: skip
    save(engine, tokenizer, out, base, model_card("sft", base, config, training, figures))
    resume.clear()
    return figures
