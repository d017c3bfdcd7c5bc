"""Train the reference model from nothing: ``python -m cai.reference.build OUT``.

One recipe, four passes, fixed seeds. The model starts with a copying circuit (``seeding.py``) whose weights move slowly, so
that from the first row on it is easier to read what was asked than to learn the closed texts by heart.
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
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from cai.reference import tasks
from cai.reference.seeding import seeded_model
from cai.reference.tokenizer import END, build_tokenizer, words

Batch = tuple[torch.Tensor, torch.Tensor]
Encoded = tuple[list[int], list[float]]


class Cycle(NamedTuple):
    """A pass of the optimiser from warm-up to rate zero: tokens (padding counted), peak rate, and the shares of the tasks."""

    tokens: int
    rate: float
    mixture: dict[str, float]


CYCLES = (
    Cycle(14_000_000, 1.5e-3, {"chat": 0.22, "critique": 0.52, "judge": 0.14, "exercise": 0.12}),
    Cycle(16_000_000, 1.2e-3, {"chat": 0.22, "critique": 0.58, "judge": 0.12, "exercise": 0.08}),
    Cycle(16_000_000, 1.0e-3, {"chat": 0.24, "critique": 0.60, "judge": 0.10, "exercise": 0.06}),
    Cycle(3_500_000, 5.0e-4, {"chat": 0.36, "critique": 0.50, "judge": 0.10, "exercise": 0.04}),
)
BATCH_TOKENS = 3072
POOL = 512  # rows sorted by length at a time
WARM_UP_TOKENS = 150_000
SLOW_CIRCUIT, SLOW_EMBEDDINGS = (
    0.1,
    0.4,
)  # shares of the rate that the circuit and the words it is about move at


class Rows:
    """Batches of token ids and of the weight of each token as a target, both ``[rows, length]``, without end."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, seed: int, mixture: dict[str, float]
    ) -> None:
        self.tokenizer, self.rng, self.mixture = tokenizer, random.Random(seed), mixture
        self.vocabulary = sorted(words() - set('.,?!:"'))

    def __iter__(self) -> Iterator[Batch]:
        while True:
            encoded = sorted(
                (encode(self.draw(), self.tokenizer) for _ in range(POOL)),
                key=lambda row: len(row[0]),
            )
            batches = list(cut(encoded, BATCH_TOKENS))
            self.rng.shuffle(batches)
            yield from map(collate, batches)

    def draw(self) -> tasks.Row:
        kind = self.rng.choices(list(self.mixture), weights=list(self.mixture.values()))[0]
        if kind == "exercise":
            return tasks.exercise(self.rng, self.vocabulary)
        return {"chat": tasks.chat, "critique": tasks.critique_and_revise, "judge": tasks.judge}[
            kind
        ](self.rng, "train")


def encode(row: tasks.Row, tokenizer: PreTrainedTokenizerFast) -> Encoded:
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


def cut(encoded: list[Encoded], budget: int) -> Iterator[list[Encoded]]:
    """Consecutive rows up to the token budget of a batch, padding counted."""
    batch: list[Encoded] = []
    for row in encoded:
        if batch and (len(batch) + 1) * len(row[0]) > budget:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def collate(batch: list[Encoded]) -> Batch:
    length = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    for i, (row, weight) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(weight)
    return ids, weights


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy of the next token; only positions with a weight are projected on the vocabulary."""
    hidden = model.model(ids).last_hidden_state[:, :-1]
    target_weights = weights[:, 1:]
    kept = target_weights > 0
    logits = model.lm_head(hidden[kept])
    losses = F.cross_entropy(logits, ids[:, 1:][kept], reduction="none")
    kept_weights = target_weights[kept]
    return (losses * kept_weights).sum() / kept_weights.sum()


def optimizer_of(model: LlamaForCausalLM, rate: float) -> torch.optim.AdamW:
    """AdamW in which the circuit and the embeddings move more slowly than the rest, and are not decayed."""
    groups = []
    for name, parameter in model.named_parameters():
        circuit = "self_attn" in name and ("layers.0." in name or "layers.1." in name)
        share = SLOW_CIRCUIT if circuit else SLOW_EMBEDDINGS if "embed" in name else 1.0
        decay = 0.05 if share == 1.0 and parameter.dim() > 1 else 0.0
        groups.append(
            {"params": [parameter], "lr": rate * share, "peak": rate * share, "weight_decay": decay}
        )
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def train(out: Path, seed: int, first: int = 0) -> None:
    """Train through all cycles from number ``first`` on; each starts from what the one before it saved in ``out``."""
    tokenizer = build_tokenizer()
    for number, cycle in enumerate(CYCLES[first:], start=first):
        if number == 0:
            model = seeded_model(
                len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed
            )  # type: ignore[arg-type]
        else:
            model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
        train_cycle(model, tokenizer, Rows(tokenizer, seed + number, cycle.mixture), cycle, out)


def train_cycle(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Rows, cycle: Cycle, out: Path
) -> None:
    """One pass over a cycle's tokens, saved as a Hugging Face folder now and then and at the end."""
    optimizer = optimizer_of(model, cycle.rate)
    model.train()
    started, saved, seen, average, step = time.monotonic(), time.monotonic(), 0, float("nan"), 0
    for ids, weights in rows:
        if seen >= cycle.tokens:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(seen, cycle.tokens)
        loss = loss_of(model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen, step = seen + ids.numel(), step + 1
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if step % 100 == 0:
            spent = round(time.monotonic() - started)
            print(
                json.dumps(
                    {"step": step, "tokens": seen, "loss": round(average, 4), "seconds": spent}
                ),
                flush=True,
            )
        if time.monotonic() - saved > 300:
            save(model, tokenizer, out)
            saved = time.monotonic()
    save(model, tokenizer, out)


def schedule(seen: int, tokens: int) -> float:
    """Share of the peak rate: linear warm-up, flat for a third of the cycle, then linear to zero."""
    return min(1.0, seen / WARM_UP_TOKENS + 1e-3, 1.5 * (1 - seen / tokens))


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
    parser.add_argument(
        "--cycle",
        type=int,
        default=0,
        help="cycle to begin with; later ones start from what OUT holds",
    )
    options = parser.parse_args()
    train(options.out, options.seed, options.cycle)


if __name__ == "__main__":
    main()
