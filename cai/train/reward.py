"""The reward model: pairwise loss with soft labels, for human and AI labels alike (arXiv 2212.08073, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cai.config import Reward, Training
from cai.errors import InputError
from cai.keys import seed_for, uniform
from cai.models.chat import ChatFormat
from cai.models.forest import Tree, plant
from cai.models.load import context_length, fingerprint, pass_tokens
from cai.models.padding import padding_id
from cai.models.scalar import ScalarModel, answer_scores
from cai.records import Preference, Prompt
from cai.rl.losses import preference_loss
from cai.train.batches import ANY_LENGTH, Answered, by_size, epoch_batches, tokenize
from cai.train.card import model_card
from cai.train.checkpoint import save
from cai.train.dress import EVEN, dressed_figures, indifference
from cai.train.engine import Engine, Part
from cai.train.held_out import held_out_figures
from cai.train.loop import Log, Pass, fit
from cai.train.opening import open_scalar, tokens_of
from cai.train.pairs import Compared, elements_key, joined, labelled
from cai.train.resume import SAVE_EVERY, Resume


def train_reward(
    preferences: Sequence[Preference], base: str, out: Path, config: Reward, *, training: Training | None = None, style: str = "",
    seed: int = 0, member: int = 0, log: Log = lambda _: None, save_every: float = SAVE_EVERY,
) -> dict[str, float]:  # fmt: skip
    """Train a reward model on labelled comparisons and save it to ``out``.

    All comparisons of a prompt stand in one element of a batch, each answer is read once. Where a label came from is looked at
    only for ``config.weights``. Prompts of a keyed share ``config.held_out`` are kept for measuring (``held_out_figures``).
    The scores are then shifted and scaled to mean 0 and deviation 1 over the answers of the training pairs; both numbers stand
    in the saved config. ``member`` is the number within an ensemble: another head to start with, another order of the rows.
    """
    training = training or Training()
    key = [seed, *(["member", member] if member else [])]
    torch.manual_seed(seed_for(*key, "reward head"))
    scalar, tokenizer = open_scalar(base, training, new_head=True)
    # the base may be a reward model itself, with the mean and deviation of another head in its config
    scalar.model.config.reward_mean, scalar.model.config.reward_std = 0.0, 1.0
    chat, pad_id = ChatFormat(tokenizer, style), padding_id(tokenizer)

    def kept_back(prompt: str) -> bool:
        return uniform(seed, "held out", prompt) < config.held_out

    even = indifference([p for p in preferences if not kept_back(p.comparison.prompt.id)], config.dressed, seed)
    labels = [*preferences, *even]
    elements, left_out = labelled(labels, chat, config.max_length, weights=config.weights, smoothing=config.label_smoothing)
    held = [element for element in elements if kept_back(element.prompt)]
    kept = [element for element in elements if not kept_back(element.prompt)]
    train = [told for element in kept if (told := _without_near_ties(element, config.least_margin)).edges]
    if not train:
        raise InputError("there is no labelled pair to train a reward model on")
    if all(edge.p_first == 0.5 for element in train for edge in element.edges):
        raise InputError("there is nothing to learn for a reward model: all labels are one half")
    sizes = [element.tree.size for element in train]
    plan = [batch for epoch in range(config.epochs) for batch in epoch_batches(sizes, config.batch_size, *key, "reward", epoch)]
    engine = Engine(scalar, rate=config.rate, steps=len(plan))
    worth = token_worth(train) if config.length_term else 0.0

    def loss(part: Pass, batch: Sequence[int]) -> Part:
        chosen = [train[i] for i in part.rows]
        forest = plant(scalar.model, [element.tree for element in chosen], pad_id)
        first, second, edges = joined(chosen, scalar.model.device)
        scores = engine.model(forest)
        p, margin, weight = (torch.tensor([getattr(e, n) for e in edges], device=scores.device) for n in ("p_first", "margin", "weight"))
        scores = scores + worth * forest.lengths()
        each = preference_loss(scores[first], scores[second], p, margin)
        share = _shares(chosen, part.counts, config.per_prompt).to(scores.device) * weight
        return Part((each * share).sum() / _whole([train[i] for i in batch], config.per_prompt))

    made_from = ["reward", fingerprint(base), config.model_dump(), training.model_dump(), style, key, elements_key(train)]
    resume = Resume(out, made_from, save_every)
    fit(engine, plan, sizes, loss, tokens=tokens_of(training, scalar.model), resume=resume, log=log)
    model, found = scalar.model.eval(), ScalarModel(scalar.model, tokenizer)
    with engine.whole():
        everything = score_trees(found, [element.tree for element in train])
        model.config.reward_mean, model.config.reward_std = float(everything.mean()), float(everything.std().clamp(min=1e-3))
        figures = held_out_figures(score_trees(found, [element.tree for element in held]), held, model.config.reward_std)
        unseen = [p for p in preferences if kept_back(p.comparison.prompt.id)]
        worn = dressed_figures(lambda rows: score_rows(found, rows), unseen, chat, context_length(model), seed)
    pairs, every = (sum(len(element.edges) for element in group) for group in (train, kept))
    turned = [way["turned"] for way in worn.values() if "turned" in way]
    figures = {
        "pairs": pairs, "prompts": len(train), "near_ties_left_out": every - pairs, **left_out, "skipped_steps": engine.skipped,
        **({"token_worth": worth} if config.length_term else {}), **figures,
        **({"dressed": worn} if worn else {}), **({"dressed_turned": max(turned)} if turned else {}),
    }  # fmt: skip
    save(engine, tokenizer, out, base, model_card("reward", base, config, training, figures))
    resume.clear()
    return figures


def token_worth(elements: Sequence[Compared]) -> float:
    """What a token more is worth to whoever labelled, in log-odds: the logistic fit of the labels on the answers' lengths alone.

    Added to the scores while they are learnt and left away after, it takes the liking for long answers upon itself.
    """
    edges = [(e, len(el.tree.answers[e.first]) - len(el.tree.answers[e.second])) for el in elements for e in el.edges]
    longer, p, weight = (torch.tensor(v, dtype=torch.float64) for v in zip(*((d, e.p_first, e.weight) for e, d in edges), strict=True))
    worth = torch.zeros((), dtype=torch.float64)
    for _ in range(50):  # Newton's method; the loss is convex in the one unknown
        said = torch.sigmoid(worth * longer)
        curvature = (weight * longer**2 * said * (1 - said)).sum()
        worth = worth - (weight * longer * (said - p)).sum() / curvature.clamp(min=1e-9)
    return float(worth.clamp(-1, 1))


def _shares(elements: Sequence[Compared], counts: Sequence[float], per_prompt: bool) -> Tensor:
    """How much each label counts, ``[P]``: all alike, or all prompts alike."""
    return torch.tensor([n / (len(e.edges) if per_prompt else 1) for e, n in zip(elements, counts, strict=True) for _ in e.edges])


def _whole(elements: Sequence[Compared], per_prompt: bool) -> float:
    """What the weights of a batch add up to."""
    return sum(edge.weight / (len(e.edges) if per_prompt else 1) for e in elements for edge in e.edges)


def _without_near_ties(element: Compared, least: float) -> Compared:
    """The element with its telling labels, and of its answers those that one of them is about."""
    edges = [edge for edge in element.edges if abs(edge.p_first - 0.5) >= least or edge.source == EVEN]
    used = sorted({i for edge in edges for i in (edge.first, edge.second)})
    edges = [edge._replace(first=used.index(edge.first), second=used.index(edge.second)) for edge in edges]
    return Compared(element.prompt, Tree(element.tree.prompt, [element.tree.answers[i] for i in used]), edges)


# -- scoring -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def score_trees(scalar: ScalarModel, trees: Sequence[Tree]) -> Tensor:
    """The score ``[A]`` of every answer of every tree, on the CPU, in order."""
    model, tokenizer = scalar
    starts = [0]
    for tree in trees:
        starts.append(starts[-1] + len(tree.answers))
    scores = torch.empty(starts[-1])
    for part in by_size([tree.size for tree in trees], pass_tokens(model.device)):
        places = [place for i in part for place in range(starts[i], starts[i + 1])]
        scores[places] = answer_scores(model, plant(model, [trees[i] for i in part], padding_id(tokenizer))).cpu()
    return scores


def score_rows(scalar: ScalarModel, rows: Sequence[Answered]) -> Tensor:
    """The score ``[N]`` of each row, on the CPU, in order."""
    return score_trees(scalar, [row.tree for row in rows])


def score_texts(scalar: ScalarModel, items: Sequence[tuple[Prompt, str]], style: str = "") -> Tensor:
    """The reward ``[N]`` of each (prompt, answer)."""
    chat = ChatFormat(scalar.tokenizer, style)
    rows = [tokenize(chat, prompt, answer, ANY_LENGTH) for prompt, answer in items]
    return score_rows(scalar, [row for row in rows if row])
