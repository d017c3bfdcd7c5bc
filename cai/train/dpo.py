"""Direct preference optimisation: from labels to a policy without a reward model (arXiv 2305.18290)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cai.config import DPO, Training
from cai.errors import InputError
from cai.models.chat import ChatFormat
from cai.models.forest import Forest, plant
from cai.models.heads import Policy
from cai.models.load import fingerprint
from cai.models.padding import padding_id
from cai.records import Preference
from cai.rl.losses import dpo_loss, ipo_loss, token_logprobs
from cai.train.batches import by_size, epoch_batches
from cai.train.card import model_card
from cai.train.checkpoint import save
from cai.train.engine import Engine, Part
from cai.train.loop import Log, Pass, ends, fit
from cai.train.opening import open_policy, tokens_of
from cai.train.pairs import Compared, elements_key, joined, labelled
from cai.train.resume import SAVE_EVERY, Resume


def train_dpo(
    preferences: Sequence[Preference], base: str, out: Path, config: DPO, *, training: Training | None = None, style: str = "",
    seed: int = 0, log: Log = lambda _: None, save_every: float = SAVE_EVERY,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune ``base`` on labelled comparisons, with ``base`` as it starts for the reference, and save it to ``out``.

    All comparisons of a prompt stand in one element of a batch. Labels are soft; ``config.label_smoothing`` moves them towards
    one half (conservative DPO). The reference is read once, before the first step.
    """
    training = training or Training()
    policy, tokenizer = open_policy(base, training)
    chat, pad_id = ChatFormat(tokenizer, style), padding_id(tokenizer)
    elements, left_out = labelled(preferences, chat, config.max_length, smoothing=config.label_smoothing)
    if not elements:
        raise InputError("there is no labelled pair to train on")
    by_mean, loss_of = (True, ipo_loss) if config.loss == "ipo" else (False, dpo_loss)
    reference = reference_logprobs(policy, elements, pad_id, mean=by_mean, tokens=tokens_of(training, policy.model))
    sizes = [element.tree.size for element in elements]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(sizes, config.batch_size, seed, "dpo", epoch)]
    engine = Engine(policy, rate=config.rate, steps=len(plan))

    def loss(part: Pass, batch: Sequence[int]) -> Part:
        chosen = [elements[i] for i in part.rows]
        forest = plant(policy.model, [element.tree for element in chosen], pad_id)
        now = answer_logprobs(engine.model(forest)[0], forest, mean=by_mean)
        before = torch.cat([reference[i] for i in part.rows]).to(now.device)
        first, second, edges = joined(chosen, now.device)
        p = torch.tensor([edge.p_first for edge in edges], device=now.device)
        counts = torch.tensor([n for e, n in zip(chosen, part.counts, strict=True) for _ in e.edges], device=now.device)
        counts = counts / sum(len(elements[i].edges) for i in batch)
        each = loss_of(now[first], now[second], before[first], before[second], p, config.beta)
        moved = (now - before).detach()
        margin = config.beta * (moved[first] - moved[second]) * (2 * p - 1)
        return Part((each * counts).sum(), {"margin": (margin * counts).sum()})

    made_from = ["dpo", fingerprint(base), config.model_dump(), training.model_dump(), style, seed, elements_key(elements)]
    resume = Resume(out, made_from, save_every)
    history = fit(engine, plan, sizes, loss, tokens=tokens_of(training, policy.model), resume=resume, log=log)
    first, last = ends(history["loss"])
    figures = {
        "pairs": sum(len(element.edges) for element in elements), "prompts": len(elements), **left_out, "steps": len(plan),
        "skipped_steps": engine.skipped, "loss_first": first, "loss_last": last, "margin_last": ends(history["margin"])[1],
    }  # fmt: skip
    save(engine, tokenizer, out, base, model_card("dpo", base, config, training, figures))
    resume.clear()
    return figures


def answer_logprobs(logits: Tensor, forest: Forest, *, mean: bool = False) -> Tensor:
    """Log-probability ``[A]`` of each answer, summed over its tokens or (IPO) their mean."""
    sums = forest.sums(token_logprobs(logits, forest.targets))
    return sums / forest.lengths() if mean else sums


@torch.no_grad()
def reference_logprobs(
    policy: Policy, elements: Sequence[Compared], pad_id: int, *, mean: bool = False, tokens: int = 1_024
) -> list[Tensor]:  # fmt: skip
    """What the policy, as it is now, thinks of the answers of every element, on the CPU."""
    found: dict[int, Tensor] = {}
    for part in by_size([element.tree.size for element in elements], tokens):
        forest = plant(policy.model, [elements[i].tree for i in part], pad_id)
        values = answer_logprobs(policy(forest)[0], forest, mean=mean).cpu()
        found |= dict(zip(part, values.split([len(elements[i].tree.answers) for i in part]), strict=True))
    return [found[i] for i in range(len(elements))]
