"""The prompts of a PPO training: their token ids, their batches, and the seeds of their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from cai.config import PPO
from cai.errors import InputError
from cai.keys import seed_for, shuffled
from cai.models.chat_template.format import ChatFormat
from cai.records import Prompt


def tokenize_prompts(
    prompts: Sequence[Prompt], chat: ChatFormat, *, max_tokens: int, context_length: int
) -> list[list[int]]:
    """Tokenize the prompts that leave room for an answer.

    Args:
        prompts: The prompts.
        chat: The chat format of the policy.
        max_tokens: Maximum tokens per answer.
        context_length: Tokens that the policy can read.

    Returns:
        Token ids of the prompts that fit.

    Raises:
        InputError: If there are no prompts, or none fits.
    """
    if not prompts:
        raise InputError("there are no prompts to train on")
    tokenized = [chat.ids(chat.prompt(prompt.messages)) for prompt in prompts]
    fitting = [ids for ids in tokenized if len(ids) + max_tokens <= context_length]
    if not fitting:
        shortest = min(len(ids) for ids in tokenized)
        raise InputError(
            f"no prompt fits: the shortest has {shortest} tokens, which together with "
            f"ppo.rollout.max_tokens = {max_tokens} exceeds the model's context of "
            f"{context_length} tokens; lower max_tokens or use shorter prompts"
        )
    return fitting


def prompt_batches(count: int, config: PPO, seed: int) -> Iterator[list[int]]:
    """Yield the prompts of each update: passes over all prompts, each in a new random order.

    Args:
        count: Number of prompts.
        config: Settings of PPO.
        seed: Seed of the order.

    Yields:
        Indices of prompts, ``rollout.batch_size`` of them; each is repeated
        ``rollout.samples_per_prompt`` times in a row.
    """
    samples = config.rollout.samples_per_prompt
    size = config.rollout.batch_size // samples
    waiting: list[int] = []
    for update in range(config.num_updates):
        while len(waiting) < size:
            waiting += shuffled(range(count), seed, "ppo prompts", update, len(waiting))
        yield [prompt for prompt in waiting[:size] for _ in range(samples)]
        waiting = waiting[size:]


def rollout_seeds(batch: Sequence[int], seed: int, update: int) -> list[int]:
    """Draw a seed per answer, from the prompt, the update, and the repetition of the prompt.

    Args:
        batch: Indices of the prompts; a prompt may occur several times.
        seed: Seed of the training.
        update: Number of the update, from 0.
    """
    repetitions: Counter[int] = Counter()
    seeds = []
    for prompt in batch:
        repetition = repetitions[prompt]
        key = [repetition] if repetition else []
        seeds.append(seed_for(seed, "ppo", update, prompt, *key))
        repetitions[prompt] += 1
    return seeds
