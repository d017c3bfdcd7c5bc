"""Supervised fine-tuning: the SL half's last step (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cai.config import SFT, Training
from cai.errors import InputError
from cai.models.chat_template.format import ChatFormat
from cai.models.load import fingerprint
from cai.models.packing.layout import pack
from cai.models.packing.padding import padding_id
from cai.records import Prompt
from cai.rl.losses import language_model_loss, token_logprobs
from cai.train.batching import epoch_batches, rows_key, tokenize
from cai.train.checkpoint import save
from cai.train.engine import Engine, StepLoss
from cai.train.load import load_policy, micro_batch_tokens_of
from cai.train.loop import Log, MicroBatch, first_and_last_decile, fit
from cai.train.model_card import model_card
from cai.train.resume import SAVE_EVERY, Resume


def train_sft(
    rows: Sequence[tuple[Prompt, str]],
    base: str,
    out: Path,
    config: SFT,
    *,
    training: Training | None = None,
    chat_format: str = "",
    seed: int = 0,
    log: Log = lambda _: None,
    save_every: float = SAVE_EVERY,
) -> dict[str, float]:
    """Fine-tune ``base`` on (prompt, answer) rows and save it to ``out``; only answer tokens are learnt.

    The loss of a step is divided by the number of its answer tokens. Killed, it goes on from its last kept state
    (``save_every`` seconds). Returns rows, steps and first and last loss.
    """
    training = training or Training()
    policy, tokenizer = load_policy(base, training)
    chat, pad_id = ChatFormat(tokenizer, chat_format), padding_id(tokenizer)
    tokenized = [
        row for prompt, answer in rows if (row := tokenize(chat, prompt, answer, config.max_length))
    ]
    if not tokenized:
        raise InputError("there is nothing to fine-tune on: no row fits into sft.max_length")
    sizes = [len(row.ids) for row in tokenized]
    plan = [
        batch
        for epoch in range(config.epochs)
        for batch in epoch_batches(sizes, config.batch_size, seed, "sft", epoch)
    ]
    engine = Engine(policy, learning_rate=config.learning_rate, steps=len(plan))

    def loss(part: MicroBatch, batch: Sequence[int]) -> StepLoss:
        packed = pack(policy.model, [tokenized[i].prompt_group for i in part.rows], pad_id)
        logits, _ = engine.model(packed)
        counted = torch.tensor(part.counts, device=logits.device)[packed.answer_index]
        in_batch = sum(len(tokenized[i].answer) for i in batch)
        return StepLoss(
            language_model_loss(token_logprobs(logits, packed.targets), counted, in_batch)
        )

    made_from = [
        "sft",
        fingerprint(base),
        config.model_dump(),
        training.model_dump(),
        chat_format,
        seed,
        rows_key(tokenized),
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
        "rows": len(tokenized),
        "dropped_too_long": len(rows) - len(tokenized),
        "steps": len(plan),
        "skipped_steps": engine.skipped,
        "loss_first": first,
        "loss_last": last,
    }
    save(engine, tokenizer, out, base, model_card("sft", base, config, training, metrics))
    resume.clear()
    return metrics
