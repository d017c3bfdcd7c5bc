"""Train the reference model from nothing: ``python -m cai.reference.build OUT``.

One recipe, fixed seeds, no stage by hand. The first part of the budget goes to copying alone, with growing lengths:
without it a small model learns the closed templates by heart and never learns to quote (see ``docs/reference-model.md``).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cai.reference import tasks
from cai.reference.tokenizer import END, build_tokenizer, words

Batch = tuple[torch.Tensor, torch.Tensor]

# copying alone, easy lines first: (familiar words, share of words from the whole vocabulary, longest line, quoting too); a
# lesson ends when its loss is low. Fewer words than the model is wide would be copied by heart, not by a circuit that serves all.
LESSONS = (
    (500, 0.0, 6, False),
    (500, 0.3, 8, False),
    (500, 0.6, 10, False),
    (500, 1.0, 12, False),
    (500, 1.0, 20, True),
    (500, 1.0, 44, True),
)
LEARNT = 0.5
COPY_LIMIT = 3_000_000  # tokens that copying alone may take


class Phase(NamedTuple):
    """A part of the training with an optimiser of its own: tokens (padding counted), peak rate, and the shares of the tasks."""

    tokens: int
    rate: float
    decays: bool
    mixture: dict[str, float]


PHASES = (
    Phase(10_800_000, 2e-3, False, {"chat": 0.16, "critique": 0.56, "judge": 0.18, "exercise": 0.10}),
    Phase(2_000_000, 1.6e-3, False, {"chat": 0.16, "critique": 0.46, "judge": 0.12, "exercise": 0.26}),
    Phase(4_600_000, 1.6e-3, True, {"chat": 0.22, "critique": 0.50, "judge": 0.14, "exercise": 0.14}),
)
BATCH_TOKENS = 6144
COPY_BATCH_TOKENS = 2048  # small batches, many steps: what a copying circuit needs to form
POOL = 512  # rows sorted by length at a time


class Rows:
    """Batches of token ids and of the weight of each token as a target, both ``[rows, length]``, without end.

    ``lesson`` is moved on by the trainer; past the last one come the mixture of all tasks.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, lesson: int, mixture: dict[str, float]) -> None:
        self.tokenizer, self.rng, self.lesson, self.mixture = tokenizer, random.Random(seed), lesson, mixture
        self.vocabulary = sorted(words() - set('.,?!:"'))

    @property
    def copying(self) -> bool:
        return self.lesson < len(LESSONS)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            lesson = self.lesson
            pool = 96 if self.copying else POOL
            encoded = sorted((encode(self.draw(), self.tokenizer) for _ in range(pool)), key=lambda row: len(row[0]))
            batches = list(cut(encoded, COPY_BATCH_TOKENS if self.copying else BATCH_TOKENS))
            self.rng.shuffle(batches)
            for batch in batches:
                yield collate(batch)
                if self.lesson != lesson:
                    break

    def draw(self) -> tasks.Row:
        familiar, open_share, longest, quoting = LESSONS[min(self.lesson, len(LESSONS) - 1)]
        known = self.vocabulary[:: len(self.vocabulary) // familiar]
        exercise = tasks.exercises(known, self.vocabulary, open_share, longest, quoting)
        if self.copying:
            return exercise(self.rng, "train")
        kind = self.rng.choices(list(self.mixture), weights=list(self.mixture.values()))[0]
        return {"chat": tasks.chat, "critique": tasks.critique_and_revise, "judge": tasks.judge, "exercise": exercise}[kind](
            self.rng, "train"
        )


def encode(row: tasks.Row, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Token ids of a conversation and the weight of each as a target; the end-of-turn token is learnt with its turn."""
    text = "".join(f"<|{turn.role}|> {turn.content}{END}" for turn in row)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    end = tokenizer.eos_token_id
    weights, turn, opening = [], 0, 0
    for token in ids:
        # a turn is: role, content ..., end
        weight = row[turn].weight if opening else 0.0
        weights.append(weight * (row[turn].first if opening == 1 else 1.0))
        opening += 1
        if token == end:
            turn, opening = turn + 1, 0
    return ids, weights


def cut(encoded: list[tuple[list[int], list[float]]], budget: int) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Consecutive rows up to the token budget of a batch, padding counted."""
    batch: list[tuple[list[int], list[float]]] = []
    for row in encoded:
        if batch and (len(batch) + 1) * len(row[0]) > budget:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def collate(batch: list[tuple[list[int], list[float]]]) -> Batch:
    length = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    for i, (row, weight) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(weight)
    return ids, weights


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=3,
        num_key_value_heads=3, initializer_range=0.06, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy of the next token; only positions with a weight are projected on the vocabulary."""
    hidden = model.model(ids).last_hidden_state[:, :-1]
    target_weights = weights[:, 1:]
    kept = target_weights > 0
    logits = model.lm_head(hidden[kept])
    losses = F.cross_entropy(logits, ids[:, 1:][kept], reduction="none")
    kept_weights = target_weights[kept]
    return (losses * kept_weights).sum() / kept_weights.sum()


def train(out: Path, seed: int, first_phase: int = 0) -> None:
    """Train through all phases and save model and tokenizer as a Hugging Face folder; each phase starts from what was saved."""
    tokenizer = build_tokenizer()
    for number in range(first_phase, len(PHASES)):
        model = new_model(tokenizer, seed) if number == 0 else LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
        lesson = 0 if number == 0 else len(LESSONS)
        train_phase(model, Rows(tokenizer, seed + number, lesson, PHASES[number].mixture), PHASES[number], out)


def train_phase(model: LlamaForCausalLM, rows: Rows, phase: Phase, out: Path) -> None:
    """One pass of AdamW through a phase's tokens."""
    model.train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=phase.rate, betas=(0.9, 0.98), fused=True
    )
    started, seen, average, step, saved = time.monotonic(), 0, float("nan"), 0, time.monotonic()
    for ids, weights in rows:
        if seen >= phase.tokens:
            break
        for group in optimizer.param_groups:
            group["lr"] = phase.rate * schedule(seen / phase.tokens, phase.decays)
        loss = loss_of(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen, step = seen + ids.numel(), step + 1
        average = loss.item() if math.isnan(average) else 0.97 * average + 0.03 * loss.item()
        if rows.copying and (average < LEARNT or seen > COPY_LIMIT):
            rows.lesson, average = rows.lesson + 1, float("nan")
            print(json.dumps({"lesson": rows.lesson, "tokens": seen}), flush=True)
        if step % 50 == 0:
            spent = time.monotonic() - started
            print(json.dumps({"step": step, "tokens": seen, "loss": round(average, 4), "seconds": round(spent)}), flush=True)
        if time.monotonic() - saved > 300:
            save(model, rows.tokenizer, out)
            saved = time.monotonic()
    save(model, rows.tokenizer, out)


def schedule(progress: float, decays: bool) -> float:
    """Linear warm-up over 1.5 % of a phase, then flat, or linear to zero."""
    return min(1.0, progress / 0.015 + 1e-3, 1 - progress if decays else 1.0)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the folder in bfloat16, half the size; the weights were rounded to it only here."""
    shipped = LlamaForCausalLM(model.config).to(torch.bfloat16)  # type: ignore[arg-type]
    shipped.load_state_dict(model.state_dict())
    shipped.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phase", type=int, default=0, help="phase to begin with; later ones start from what OUT holds")
    options = parser.parse_args()
    train(options.out, options.seed, options.phase)


if __name__ == "__main__":
    main()
