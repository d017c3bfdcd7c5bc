"""Rollouts: the policy's answers to a batch of prompts, with everything the update needs to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from cai import distributed
from cai.models.load import default_micro_batch_tokens
from cai.models.packing.layout import PromptGroup
from cai.train.batching import bucket_by_length
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.rewards import ScoreFunction, values_of


class Trajectory(NamedTuple):
    """One answer of ``T`` tokens to a prompt."""

    prompt: list[int]
    answer: list[int]  # its stop token included
    logprobs: list[float]  # [T] under the policy that wrote it
    ref_logprobs: list[float]  # [T] under the reference
    values: list[float]  # [T] of the state before each token
    score: float | None  # None: nobody could tell, and nothing is learnt from this answer
    constraint: float | None  # what the guarding score says, likewise; 0 without one
    stopped: bool  # whether it ended by itself


class Rollout(NamedTuple):
    """``B`` answers, padded on the right to ``T`` tokens."""

    trajectories: list[Trajectory]
    mask: Tensor  # [B, T] True where an answer token is real
    logprobs: Tensor  # [B, T]
    ref_logprobs: Tensor  # [B, T]
    values: Tensor  # [B, T]
    scores: Tensor  # [B] 0 where there is none
    constraints: Tensor  # [B] likewise
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
    def of(cls, trajectories: Sequence[Trajectory]) -> Rollout:
        length = max(len(e.answer) for e in trajectories)

        def padded(name: str) -> Tensor:
            return torch.tensor(
                [[*getattr(e, name), *[0.0] * (length - len(e.answer))] for e in trajectories]
            )

        mask = torch.arange(length) < torch.tensor([[len(e.answer)] for e in trajectories])
        return cls(
            list(trajectories),
            mask,
            padded("logprobs"),
            padded("ref_logprobs"),
            padded("values"),
            scores=torch.tensor([e.score or 0.0 for e in trajectories]),
            constraints=torch.tensor([e.constraint or 0.0 for e in trajectories]),
            scored=torch.tensor(
                [e.score is not None and e.constraint is not None for e in trajectories]
            ),
            stopped=torch.tensor([e.stopped for e in trajectories]),
        )


def prompt_groups_of(rows: Sequence[tuple[list[int], list[int]]]) -> list[PromptGroup]:
    """(prompt, answer) rows as trees, in order: answers to one prompt that stand next to each other share it."""
    return [
        PromptGroup(prompt, [answer for _, answer in group])
        for prompt, group in groupby(rows, key=lambda row: row[0])
    ]


def collect_rollout(
    actor_critic: ActorCritic,
    prompts: Sequence[list[int]],
    score: ScoreFunction,
    *,
    seeds: Sequence[int],
    max_tokens: int,
    missing_eos_score: float | None,
    tokens: int = 0,
    constraint: ScoreFunction | None = None,
) -> Rollout:
    """Answer each prompt once and look at the answers with policy, reference, critic and scorer.

    ``tokens`` is the most of one pass; 0: what suits the device. ``constraint`` is a second score, which is kept apart. Every process
    answers its share, and all get the whole. Sampling uses the whole distribution at the agent's temperature, and all
    log-probabilities are taken at that temperature, so that ratios are 1 before the first update. An answer that was cut off gets
    ``missing_eos_score`` in place of its own score, where one is given (lm-human-preferences).
    """
    with actor_critic.summon_full_params():
        mine = _answer(
            actor_critic,
            distributed.share(prompts),
            score,
            distributed.share(seeds),
            max_tokens,
            missing_eos_score,
            tokens,
            constraint,
        )
    if distributed.count() == 1:
        return Rollout.of(mine)
    gathered = [trajectory for part in distributed.gather(mine) for trajectory in part]
    # they come process by process; each had every count-th prompt
    order = sorted(range(len(prompts)), key=lambda i: (i % distributed.count(), i))
    return Rollout.of(
        [
            trajectory
            for _, trajectory in sorted(zip(order, gathered, strict=True), key=lambda pair: pair[0])
        ]
    )


def _answer(
    actor_critic: ActorCritic,
    prompts: list[list[int]],
    score: ScoreFunction,
    seeds: list[int],
    max_tokens: int,
    missing: float | None,
    tokens: int,
    constraint: ScoreFunction | None,
) -> list[Trajectory]:
    if not prompts:
        return []
    decoded = actor_critic.generate(
        prompts, max_tokens=max_tokens, temperature=actor_critic.temperature, seeds=seeds
    )
    answers = [row.tokens for row in decoded]
    scores = values_of(score, prompts, answers)
    constraints = values_of(constraint, prompts, answers) if constraint else [0.0] * len(answers)
    if missing is not None:
        scores = [s if row.stopped else missing for s, row in zip(scores, decoded, strict=True)]
    eval_points: dict[int, tuple[list[float], list[float], list[float]]] = {}
    most = tokens or default_micro_batch_tokens(actor_critic.model.device)
    for rows in bucket_by_length(
        [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], most
    ):
        part = sorted(rows, key=lambda i: (prompts[i], i))
        written = (
            torch.tensor([p for i in part for p in decoded[i].logprobs])
            if actor_critic.generation_logprobs_are_exact
            else None
        )
        seen = actor_critic.forward(
            prompt_groups_of([(prompts[i], answers[i]) for i in part]), written
        )
        sizes = [len(answers[i]) for i in part]
        columns = zip(
            *([t.tolist() for t in values.cpu().split(sizes)] for values in seen), strict=True
        )
        eval_points |= dict(zip(part, columns, strict=True))
    return [
        Trajectory(
            prompt,
            answer,
            *eval_points[i],
            score=scores[i],
            constraint=constraints[i],
            stopped=decoded[i].stopped,
        )
        for i, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]
