"""Train the reference model from scratch: ``python -m cai.reference.build OUT``.

One recipe, four cycles, fixed seeds. The model starts with a copying circuit (``seeding.py``) whose
weights move slowly. So from the first row on, reading the request is easier than memorizing texts.
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
    """One cycle of the optimizer, from warm-up to a learning rate of zero.

    Attributes:
        tokens: Number of tokens, padding included.
        learning_rate: Peak learning rate.
        mixture: Share of each task.
    """

    tokens: int
    learning_rate: float
    mixture: dict[str, float]


CYCLES = (
    Cycle(14_000_000, 1.5e-3, {"chat": 0.22, "critique": 0.52, "judge": 0.14, "exercise": 0.12}),
    Cycle(16_000_000, 1.2e-3, {"chat": 0.22, "critique": 0.58, "judge": 0.12, "exercise": 0.08}),
    Cycle(16_000_000, 1.0e-3, {"chat": 0.24, "critique": 0.60, "judge": 0.10, "exercise": 0.06}),
    Cycle(3_500_000, 5.0e-4, {"chat": 0.36, "critique": 0.50, "judge": 0.10, "exercise": 0.04}),
)
BATCH_TOKENS = 3072
POOL = 512
"""Rows that are sorted by length at a time."""
WARM_UP_TOKENS = 150_000
SLOW_CIRCUIT, SLOW_EMBEDDINGS = 0.1, 0.4
"""Factors on the learning rate of the copying circuit and of the embeddings."""
SAVE_SECONDS = 300
"""Seconds between two saves."""


class Rows:
    """An endless iterator of batches: token ids and target weights, both ``[rows, length]``.

    Args:
        tokenizer: The reference tokenizer.
        seed: Random seed of the rows.
        mixture: Share of each task.
    """

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
        """Draw a row of a random task."""
        kind = self.rng.choices(list(self.mixture), weights=list(self.mixture.values()))[0]
        if kind == "exercise":
            return tasks.exercise(self.rng, self.vocabulary)
        return {"chat": tasks.chat, "critique": tasks.critique_and_revise, "judge": tasks.judge}[
            kind
        ](self.rng, "train")


def encode(row: tasks.Row, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Tokenize a conversation; the end-of-turn token is learned with its turn.

    Args:
        row: The conversation.
        tokenizer: The reference tokenizer.

    Returns:
        The token ids, and the weight of each as a target.
    """
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
    """Cut rows into batches of consecutive rows.

    Args:
        encoded: The rows.
        budget: Maximum tokens of a batch, padding included.
    """
    batch: list[Encoded] = []
    for row in encoded:
        if batch and (len(batch) + 1) * len(row[0]) > budget:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def collate(batch: list[Encoded]) -> Batch:
    """Pad rows to the length of the longest."""
    length = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    for i, (row, weight) in enumerate(batch):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = torch.tensor(weight)
    return ids, weights


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute the weighted cross-entropy of the next token.

    Only positions with a weight are projected to the vocabulary.

    Args:
        model: The model.
        ids: Token ids, ``[rows, length]``.
        weights: Weight of each token as a target, ``[rows, length]``.
    """
    hidden = model.model(ids).last_hidden_state[:, :-1]
    target_weights = weights[:, 1:]
    kept = target_weights > 0
    logits = model.lm_head(hidden[kept])
    losses = F.cross_entropy(logits, ids[:, 1:][kept], reduction="none")
    kept_weights = target_weights[kept]
    return (losses * kept_weights).sum() / kept_weights.sum()


def make_optimizer(model: LlamaForCausalLM, learning_rate: float) -> torch.optim.AdamW:
    """Return AdamW with slower weights, without decay, for the circuit and the embeddings.

    Args:
        model: The model.
        learning_rate: Peak learning rate of the other weights.
    """
    groups = []
    for name, parameter in model.named_parameters():
        circuit = "self_attn" in name and ("layers.0." in name or "layers.1." in name)
        share = SLOW_CIRCUIT if circuit else SLOW_EMBEDDINGS if "embed" in name else 1.0
        decay = 0.05 if share == 1.0 and parameter.dim() > 1 else 0.0
        groups.append(
            {
                "params": [parameter],
                "lr": learning_rate * share,
                "peak": learning_rate * share,
                "weight_decay": decay,
            }
        )
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def train(out: Path, seed: int, first: int = 0) -> None:
    """Train through the cycles.

    Args:
        out: Folder of the model.
        seed: Random seed.
        first: Number of the first cycle, from 0; later ones start from the model in ``out``.
    """
    tokenizer = build_tokenizer()
    for number, cycle in enumerate(CYCLES[first:], start=first):
        if number == 0:
            model = seeded_model(
                len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed
            )
        else:
            model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
        train_cycle(model, tokenizer, Rows(tokenizer, seed + number, cycle.mixture), cycle, out)


def train_cycle(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Rows, cycle: Cycle, out: Path
) -> None:
    """Train for one cycle; the model is saved every few minutes and at the end.

    Args:
        model: The model.
        tokenizer: The reference tokenizer, saved with it.
        rows: The batches.
        cycle: The cycle.
        out: Folder of the model.
    """
    optimizer = make_optimizer(model, cycle.learning_rate)
    model.train()
    started = saved = time.monotonic()
    tokens = 0
    average = math.nan
    for step, (ids, weights) in enumerate(rows, start=1):
        if tokens >= cycle.tokens:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(tokens, cycle.tokens)
        loss = loss_of(model, ids, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += ids.numel()
        average = loss.item() if math.isnan(average) else 0.98 * average + 0.02 * loss.item()
        if step % 100 == 0:
            spent = round(time.monotonic() - started)
            print(
                json.dumps(
                    {"step": step, "tokens": tokens, "loss": round(average, 4), "seconds": spent}
                ),
                flush=True,
            )
        if time.monotonic() - saved > SAVE_SECONDS:
            save(model, tokenizer, out)
            saved = time.monotonic()
    save(model, tokenizer, out)


def schedule(tokens: int, total: int) -> float:
    """Return the factor on the peak learning rate: linear warm-up, flat, then linear to zero.

    Args:
        tokens: Tokens trained on so far.
        total: Tokens of the cycle. The last two thirds of it decay.
    """
    return min(1.0, tokens / WARM_UP_TOKENS + 1e-3, 1.5 * (1 - tokens / total))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model in bfloat16, at half the size; it is trained in float32.

    Args:
        model: The model.
        tokenizer: The tokenizer, saved with it.
        out: Folder to write to.
    """
    shipped = LlamaForCausalLM(model.config).to(torch.bfloat16)  # type: ignore[arg-type]
    shipped.load_state_dict(model.state_dict())
    shipped.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cycle",
        type=int,
        default=0,
        help="first cycle, from 0; later ones start from the model in OUT",
    )
    options = parser.parse_args()
    train(options.out, options.seed, options.cycle)


if __name__ == "__main__":
    main()
