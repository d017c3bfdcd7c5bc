"""Supervised fine-tuning, the last step of the supervised half (arXiv 2212.08073, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cai.config import SFT
from cai.errors import InputError
from cai.files import StrPath
from cai.models.chat_template.format import ChatFormat
from cai.records import Prompt
from cai.rl.losses import language_model_loss, token_logprobs
from cai.train.batching import TokenizedExample, rows_key, tokenize
from cai.train.engine import StepLoss
from cai.train.loop import MicroBatch
from cai.train.options import TrainerOptions
from cai.train.trainer import Trainer, TrainerSetup


def train_sft(
    rows: Sequence[tuple[Prompt, str]],
    base: StrPath,
    out: StrPath,
    config: SFT,
    *,
    options: TrainerOptions | None = None,
) -> dict[str, float]:
    """Fine-tune a language model on answers to prompts.

    Only the tokens of the answers are learned, their stop tokens included. An interrupted training
    continues from its last saved state when it is started again.

    Args:
        rows: Prompts with the answers to imitate.
        base: Model to start from: ``reference``, a folder, or a hub id.
        out: Folder to save the trained model to.
        config: Settings of the training.
        options: Options that all trainers share; None: their defaults.

    Returns:
        ``rows`` trained on, rows ``dropped_too_long``, optimizer ``steps``, ``skipped_steps``, and
        the mean loss of the first and of the last tenth of the steps, ``loss_first`` and
        ``loss_last``.

    Raises:
        InputError: If there are no rows, or none fits ``config.max_length``.
        RunFailed: If training diverges.
    """
    setup = TrainerSetup.of("sft", base, out, config, options)
    policy, chat = setup.load_policy()
    examples = _tokenize_rows(rows, chat, config.max_length)
    trainer = Trainer(
        setup,
        policy,
        chat,
        lengths=[len(example.ids) for example in examples],
        data_key=rows_key(examples),
    )

    def loss(micro_batch: MicroBatch, batch: Sequence[int]) -> StepLoss:
        """Sum the negative log-likelihood over answer tokens, divided by those of the batch."""
        packed = trainer.pack(examples[row].prompt_group for row in micro_batch.rows)
        logits, _ = trainer.engine.model(packed)
        logprobs = token_logprobs(logits, packed.targets)
        weights = torch.tensor(micro_batch.weights, device=logits.device)[packed.answer_index]
        tokens_in_batch = sum(len(examples[row].answer) for row in batch)
        return StepLoss(language_model_loss(logprobs, weights, tokens_in_batch))

    history = trainer.fit(loss)
    metrics = {
        "rows": len(examples),
        "dropped_too_long": len(rows) - len(examples),
        **trainer.metrics(history),
    }
    trainer.save(metrics)
    return metrics


def _tokenize_rows(
    rows: Sequence[tuple[Prompt, str]], chat: ChatFormat, max_length: int
) -> list[TokenizedExample]:
    """Tokenize the rows that fit."""
    if not rows:
        raise InputError("there are no rows to fine-tune on")
    tokenized = [tokenize(chat, prompt, answer, max_length) for prompt, answer in rows]
    examples = [example for example in tokenized if example is not None]
    if not examples:
        raise InputError(
            f"no row fits sft.max_length: all {len(rows)} have more than {max_length} tokens"
        )
    return examples
