"""Rollouts: the policy's answers to a batch of prompts, with everything the update needs to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from cai import processes
from cai.models.forest import Tree
from cai.models.load import pass_tokens
from cai.train.agent import Agent
from cai.train.batches import by_size
from cai.train.scores import ScoreFunction, values_of


class Episode(NamedTuple):
    """One answer of ``T`` tokens to a prompt."""

    prompt: list[int]
    answer: list[int]  # its stop token included
    logprobs: list[float]  # [T] under the policy that wrote it
    ref_logprobs: list[float]  # [T] under the reference
    values: list[float]  # [T] of the state before each token
    score: float | None  # None: nobody could tell, and nothing is learnt from this answer
    guard: float | None  # what the guarding score says, likewise; 0 without one
    stopped: bool  # whether it ended by itself


class Rollout(NamedTuple):
    """``B`` answers, padded on the right to ``T`` tokens."""

    episodes: list[Episode]
    mask: Tensor  # [B, T] True where an answer token is real
    logprobs: Tensor  # [B, T]
    ref_logprobs: Tensor  # [B, T]
    values: Tensor  # [B, T]
    scores: Tensor  # [B] 0 where there is none
    guards: Tensor  # [B] likewise
    scored: Tensor  # [B] True where the score, and the guard's, are known
    stopped: Tensor  # [B]

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(1)

    @property
    def learnt(self) -> Tensor:
        """The mask ``[B, T]`` of the tokens that are learnt from: those of the answers that have a score."""
        return self.mask & self.scored.unsqueeze(1)

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Rollout:
        length = max(len(e.answer) for e in episodes)

        def padded(name: str) -> Tensor:
            return torch.tensor([[*getattr(e, name), *[0.0] * (length - len(e.answer))] for e in episodes])

        mask = torch.arange(length) < torch.tensor([[len(e.answer)] for e in episodes])
        return cls(
            list(episodes), mask, padded("logprobs"), padded("ref_logprobs"), padded("values"),
            scores=torch.tensor([e.score or 0.0 for e in episodes]), guards=torch.tensor([e.guard or 0.0 for e in episodes]),
            scored=torch.tensor([e.score is not None and e.guard is not None for e in episodes]),
            stopped=torch.tensor([e.stopped for e in episodes]),
        )  # fmt: skip


def trees_of(rows: Sequence[tuple[list[int], list[int]]]) -> list[Tree]:
    """(prompt, answer) rows as trees, in order: answers to one prompt that stand next to each other share it."""
    return [Tree(prompt, [answer for _, answer in group]) for prompt, group in groupby(rows, key=lambda row: row[0])]


def roll_out(
    agent: Agent, prompts: Sequence[list[int]], score: ScoreFunction, *, seeds: Sequence[int], max_tokens: int, missing_eos_score: float | None,
    tokens: int = 0, guard: ScoreFunction | None = None,
) -> Rollout:  # fmt: skip
    """Answer each prompt once and look at the answers with policy, reference, critic and scorer.

    ``tokens`` is the most of one pass; 0: what suits the device. ``guard`` is a second score, which is kept apart. Every process
    answers its share, and all get the whole. Sampling uses the whole distribution at the agent's temperature, and all
    log-probabilities are taken at that temperature, so that ratios are 1 before the first update. An answer that was cut off gets
    ``missing_eos_score`` in place of its own score, where one is given (lm-human-preferences).
    """
    with agent.whole():
        mine = _answer(agent, processes.share(prompts), score, processes.share(seeds), max_tokens, missing_eos_score, tokens, guard)
    if processes.count() == 1:
        return Rollout.of(mine)
    gathered = [episode for part in processes.gather(mine) for episode in part]
    # they come process by process; each had every count-th prompt
    order = sorted(range(len(prompts)), key=lambda i: (i % processes.count(), i))
    return Rollout.of([episode for _, episode in sorted(zip(order, gathered, strict=True), key=lambda pair: pair[0])])


def _answer(
    agent: Agent, prompts: list[list[int]], score: ScoreFunction, seeds: list[int], max_tokens: int, missing: float | None, tokens: int,
    guard: ScoreFunction | None,
) -> list[Episode]:  # fmt: skip
    if not prompts:
        return []
    decoded = agent.write(prompts, max_tokens=max_tokens, temperature=agent.temperature, seeds=seeds)
    answers = [row.tokens for row in decoded]
    scores = values_of(score, prompts, answers)
    guards = values_of(guard, prompts, answers) if guard else [0.0] * len(answers)
    if missing is not None:
        scores = [s if row.stopped else missing for s, row in zip(scores, decoded, strict=True)]
    looks: dict[int, tuple[list[float], list[float], list[float]]] = {}
    most = tokens or pass_tokens(agent.model.device)
    for rows in by_size([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], most):
        part = sorted(rows, key=lambda i: (prompts[i], i))
        written = torch.tensor([p for i in part for p in decoded[i].logprobs]) if agent.reads_as_it_writes else None
        seen = agent.look(trees_of([(prompts[i], answers[i]) for i in part]), written)
        sizes = [len(answers[i]) for i in part]
        columns = zip(*([t.tolist() for t in values.cpu().split(sizes)] for values in seen), strict=True)
        looks |= dict(zip(part, columns, strict=True))
    return [
        Episode(prompt, answer, *looks[i], score=scores[i], guard=guards[i], stopped=decoded[i].stopped)
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
