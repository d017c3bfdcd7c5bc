"""The models of one policy optimisation: the policy, what values its states, and the reference it is held to."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai.config import PPO, Training
from cai.keys import seed_for
from cai.models.chat_template.format import ChatFormat
from cai.models.decode import Decoded, decode
from cai.models.heads import Policy
from cai.models.load import load_language_model, load_tokenizer, same_tokenization
from cai.models.packing.layout import PackedBatch, PromptGroup, pack
from cai.models.packing.padding import padding_id
from cai.models.stopping import stop_tokens
from cai.rl.losses import token_logprobs
from cai.train.engine import Engine
from cai.train.load import load_policy, load_scalar
from cai.train.lora import without_adapters


class PolicyOutputs(NamedTuple):
    """What the models make of the tokens of some answers, ``[N]`` each."""

    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor  # of the state before each token; 0 where nothing values states


class ActorCritic:
    """A policy under optimisation with all that belongs to it.

    With adapters the reference is the policy without them; else a frozen copy. The critic is a model of its own that starts as
    the reward model, a second head on the policy, or (``rloo``, ``grpo``) nothing.
    """

    def __init__(
        self,
        policy_name: str,
        reward_name: str,
        config: PPO,
        training: Training,
        seed: int,
        chat_format: str = "",
    ) -> None:
        self.temperature = config.rollout.temperature
        valued = config.method == "ppo"
        self.head = valued and config.critic == "head"
        self.policy, self.tokenizer = load_policy(policy_name, training, value=self.head)
        self.stops = stop_tokens(policy_name, ChatFormat(self.tokenizer, chat_format))
        steps = config.num_updates * config.epochs * config.num_minibatches
        self.reference: Policy | None = None
        if not training.lora_rank:
            frozen, _ = load_language_model(policy_name, dtype=self.policy.precision)
            self.reference = Policy(frozen.requires_grad_(False), self.policy.precision)
        self.writer = _Writer(self.policy)
        self.actor = Engine(self.policy, learning_rate=config.learning_rate, steps=steps)
        self.critic: Engine | None = None
        if valued and not self.head:
            torch.manual_seed(
                seed_for(seed, "value head")
            )  # drawn where there is no reward model to start from
            alike = bool(reward_name) and same_tokenization(
                self.tokenizer, load_tokenizer(reward_name)
            )
            scalar, _ = load_scalar(
                reward_name if alike else policy_name, training, new_head=not alike
            )
            self.critic = Engine(scalar, learning_rate=config.value_learning_rate, steps=steps)
        for engine in self.engines.values():
            engine.model.train()  # dropout is off; without it no activation would be computed again
            engine.start(self.pack([PromptGroup([0], [[0]])]))

    @property
    def model(self) -> PreTrainedModel:
        return self.policy.model

    @property
    def engines(self) -> dict[str, Engine]:
        return {"policy": self.actor} | ({"value": self.critic} if self.critic else {})

    def pack(self, prompt_groups: Sequence[PromptGroup]) -> PackedBatch:
        return pack(self.model, prompt_groups, padding_id(self.tokenizer))

    @contextlib.contextmanager
    def summon_full_params(self) -> Iterator[None]:
        """Within it this process may use the models by itself, as often as it likes."""
        with contextlib.ExitStack() as stack:
            for engine in self.engines.values():
                stack.enter_context(engine.summon_full_params())
            yield

    def generate(
        self,
        prompts: Sequence[list[int]],
        *,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[Decoded]:
        """The policy's answers."""
        pad = padding_id(self.tokenizer)
        with self.writer.model() as model:
            return decode(
                model,
                prompts,
                max_tokens=max_tokens,
                temperature=temperature,
                seeds=seeds,
                stop_ids=self.stops,
                pad_id=pad,
            )

    @property
    def generation_logprobs_are_exact(self) -> bool:
        """Whether the log-probabilities that an answer was drawn with are those of a pass, so that none is needed to find them."""
        return self.writer.is_the_policy and not self.head

    @torch.no_grad()
    def forward(
        self, prompt_groups: Sequence[PromptGroup], written: Tensor | None = None
    ) -> PolicyOutputs:
        """What policy, reference and critic make of answers; the policy is not asked where ``written`` tells its log-probabilities."""
        packed = self.pack(prompt_groups)
        if written is None:
            logits, values = self.policy(packed)
            logprobs = token_logprobs(logits, packed.targets, self.temperature)
        else:
            logprobs, values = written.to(packed.targets.device), None
        if self.critic:
            values = self.critic.unwrapped(packed, values=True)
        return PolicyOutputs(
            logprobs,
            self._reference(packed),
            logprobs.new_zeros(logprobs.shape) if values is None else values,
        )

    def _reference(self, packed: PackedBatch) -> Tensor:
        with without_adapters(self.model) if self.reference is None else contextlib.nullcontext():
            read: Callable[[PackedBatch], tuple[Tensor, Tensor | None]] = (
                self.reference or self.policy
            )
            return token_logprobs(read(packed)[0], packed.targets, self.temperature)


class _Writer:
    """The policy as it writes: itself, or a copy in the precision of its passes, which reads half the bytes per token."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        narrow = policy.precision != torch.float32
        self._copy: PreTrainedModel | None = _narrowed(policy) if narrow else None

    @property
    def is_the_policy(self) -> bool:
        return self._copy is None

    @contextlib.contextmanager
    def model(self) -> Iterator[PreTrainedModel]:
        """The policy as it is now, ready to generate."""
        found, was_training = self._copy or self.policy.model, self.policy.training
        if self._copy:
            with torch.no_grad():
                for mine, theirs in zip(
                    self._copy.parameters(), self.policy.model.parameters(), strict=True
                ):
                    mine.copy_(theirs.full_tensor() if hasattr(theirs, "full_tensor") else theirs)
        found.eval()  # checkpointing, which forbids the cache, is for training alone
        try:
            yield found
        finally:
            self.policy.train(was_training)


def _narrowed(policy: Policy) -> PreTrainedModel:
    found: PreTrainedModel = copy.deepcopy(policy.model).requires_grad_(False)
    for parameter in found.parameters():
        parameter.data = parameter.data.to(policy.precision)
    return found
