"""Rollouts: the policy's answers to a batch of prompts, with everything that an update needs.

Shapes: ``B`` answers, ``T`` response positions, ``N`` answer tokens one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from cai import distributed
from cai.models.decode import Decoded
from cai.models.load import default_micro_batch_tokens
from cai.models.packing.layout import PromptGroup
from cai.train.batching import bucket_by_length
from cai.train.ppo.actor_critic import ActorCritic
from cai.train.ppo.rewards import ScoreFunction, score_answers


class Trajectory(NamedTuple):
    """One answer of ``T`` tokens to a prompt.

    Attributes:
        prompt: Token ids of the prompt.
        answer: ``[T]`` token ids of the answer, its stop token included.
        logprobs: ``[T]`` log-probabilities under the policy that wrote the answer.
        ref_logprobs: ``[T]`` log-probabilities under the reference.
        values: ``[T]`` values of the state before each token.
        score: The answer's score; None if it has none, and then nothing is learned from it.
        constraint: The constraint's score, 0 without a constraint; None as for ``score``.
        stopped: Whether the answer ended with a stop token, and was not cut off.
    """

    prompt: list[int]
    answer: list[int]
    logprobs: list[float]
    ref_logprobs: list[float]
    values: list[float]
    score: float | None
    constraint: float | None
    stopped: bool


class Rollout(NamedTuple):
    """``B`` answers, padded on the right to ``T`` tokens.

    Attributes:
        trajectories: The answers one by one.
        mask: ``[B, T]`` True at answer tokens, False in the padding.
        logprobs: ``[B, T]`` log-probabilities under the policy that wrote the answers.
        ref_logprobs: ``[B, T]`` log-probabilities under the reference.
        values: ``[B, T]`` values of the state before each token.
        scores: ``[B]`` score of each answer, 0 if it has none.
        constraints: ``[B]`` constraint's score of each answer, 0 if it has none.
        scored: ``[B]`` True where both the score and the constraint's score are known.
        stopped: ``[B]`` True where the answer ended with a stop token.
    """

    trajectories: list[Trajectory]
    mask: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    scores: Tensor
    constraints: Tensor
    scored: Tensor
    stopped: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of tokens of each answer, ``[B]``."""
        return self.mask.sum(1)

    @property
    def loss_mask(self) -> Tensor:
        """True at the tokens to learn from, ``[B, T]``: those of the answers that have a score."""
        return self.mask & self.scored.unsqueeze(1)

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> Rollout:
        """Pad trajectories to one rollout."""
        lengths = [len(row.answer) for row in trajectories]
        longest = max(lengths)

        def pad(rows: Sequence[list[float]]) -> Tensor:
            return torch.tensor([row + [0.0] * (longest - len(row)) for row in rows])

        return cls(
            trajectories=list(trajectories),
            mask=torch.arange(longest) < torch.tensor(lengths).unsqueeze(1),
            logprobs=pad([row.logprobs for row in trajectories]),
            ref_logprobs=pad([row.ref_logprobs for row in trajectories]),
            values=pad([row.values for row in trajectories]),
            scores=torch.tensor([row.score or 0.0 for row in trajectories]),
            constraints=torch.tensor([row.constraint or 0.0 for row in trajectories]),
            scored=torch.tensor(
                [row.score is not None and row.constraint is not None for row in trajectories]
            ),
            stopped=torch.tensor([row.stopped for row in trajectories]),
        )


def prompt_groups_of(rows: Sequence[tuple[list[int], list[int]]]) -> list[PromptGroup]:
    """Group rows of prompt and answer, in order; neighbors with the same prompt share it."""
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
    micro_batch_tokens: int | None = None,
    constraint: ScoreFunction | None = None,
) -> Rollout:
    """Answer each prompt, score the answers, and read them with policy, reference and critic.

    The answers are sampled from the whole distribution at the actor-critic's temperature, and all
    log-probabilities are taken at that temperature, so that all ratios are 1 before the first
    optimizer step. Each process answers its share of the prompts and gets the whole rollout.

    Args:
        actor_critic: The models.
        prompts: Token ids of the prompts.
        score: The reward source.
        seeds: One per prompt.
        max_tokens: Maximum tokens per answer.
        micro_batch_tokens: Maximum tokens per forward pass; None: what suits the device.
        constraint: A second reward source, whose scores are kept apart.

    Returns:
        The rollout, in the order of the prompts.
    """
    own_prompts = distributed.share(prompts)
    own_seeds = distributed.share(seeds)
    trajectories: list[Trajectory] = []
    with actor_critic.summon_full_params():
        if own_prompts:  # with fewer prompts than processes, some have none
            decoded = actor_critic.generate(
                own_prompts,
                max_tokens=max_tokens,
                temperature=actor_critic.temperature,
                seeds=own_seeds,
            )
            answers = [row.tokens for row in decoded]
            scores = score_answers(score, own_prompts, answers)
            constraints: list[float | None] = [0.0] * len(answers)
            if constraint:
                constraints = score_answers(constraint, own_prompts, answers)
            outputs = _read_answers(actor_critic, own_prompts, decoded, micro_batch_tokens)
            trajectories = [
                Trajectory(prompt, row.tokens, *output, own_score, own_constraint, row.stopped)
                for prompt, row, output, own_score, own_constraint in zip(
                    own_prompts, decoded, outputs, scores, constraints, strict=True
                )
            ]
    return Rollout.of(_gather(trajectories, len(prompts)))


class _AnswerOutputs(NamedTuple):
    """What the models say about the ``T`` tokens of one answer."""

    logprobs: list[float]
    ref_logprobs: list[float]
    values: list[float]


def _read_answers(
    actor_critic: ActorCritic,
    prompts: Sequence[list[int]],
    decoded: Sequence[Decoded],
    micro_batch_tokens: int | None,
) -> list[_AnswerOutputs]:
    """Read all answers with policy, reference and critic, in micro-batches of similar length."""
    sizes = [len(prompt) + len(row.tokens) for prompt, row in zip(prompts, decoded, strict=True)]
    max_tokens = micro_batch_tokens or default_micro_batch_tokens(actor_critic.model.device)
    outputs: dict[int, _AnswerOutputs] = {}
    for bucket in bucket_by_length(sizes, max_tokens):
        # neighboring answers to one prompt share its tokens
        rows = sorted(bucket, key=lambda i: (prompts[i], i))
        groups = prompt_groups_of([(prompts[i], decoded[i].tokens) for i in rows])
        sampled_logprobs = None
        if actor_critic.generation_logprobs_are_exact:
            sampled_logprobs = torch.tensor([p for i in rows for p in decoded[i].logprobs])
        flat = actor_critic.forward(groups, sampled_logprobs)
        lengths = [len(decoded[i].tokens) for i in rows]
        logprobs = _split(flat.logprobs, lengths)
        ref_logprobs = _split(flat.ref_logprobs, lengths)
        values = _split(flat.values, lengths)
        for k, i in enumerate(rows):
            outputs[i] = _AnswerOutputs(logprobs[k], ref_logprobs[k], values[k])
    return [outputs[i] for i in range(len(prompts))]


def _split(values_N: Tensor, lengths: Sequence[int]) -> list[list[float]]:
    """Cut the values of consecutive answers apart."""
    values = values_N.tolist()
    parts = []
    start = 0
    for length in lengths:
        parts.append(values[start : start + length])
        start += length
    return parts


def _gather(trajectories: list[Trajectory], count: int) -> list[Trajectory]:
    """Gather the trajectories of all processes, in the order of the prompts."""
    by_process = distributed.gather(trajectories)
    # process p answered the prompts p, p + n, p + 2n ... of n processes
    processes = len(by_process)
    return [by_process[i % processes][i // processes] for i in range(count)]
