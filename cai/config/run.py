"""The run file (``cai run``) and the training file (``cai sft``, ``reward``, ``ppo``, ``dpo``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from pydantic import field_validator, model_validator

from cai.cleaning import holds_secret
from cai.config.base import ChatFormat, Count, Fraction, Name, Names, Section, Tracker
from cai.config.feedback import Audit, Compare, Evaluate, Judge, Prompts, Revise, Sampling
from cai.config.servers import Server, addresses, providers
from cai.config.training import DPO, PPO, SFT, Constraint, Monitor, Reward, Training

Algorithm = Literal["ppo", "dpo"]


class Models(Section):
    """Which model plays which part.

    ``reference``, a model folder, a hub id, a server (``http://host:8000/v1#model``,
    ``provider#model`` or a name of ``servers``) or a function (``module:function``). Folders and
    modules are looked up beside the run file, then in the working folder.
    """

    initial: str = "reference"
    """Initial policy: it answers first, and the trained policies start from it."""
    critic: Name | None = None
    """Model that writes critiques and revisions; null: the initial policy."""
    judge: Names | None = None
    """Model that labels comparisons, or a list of several, see judge.combine_judges; null: the
    initial policy."""
    reward: Name | None = None
    """Model that the reward model starts from, a folder or hub id with any tokenizer; null: the
    SL-CAI policy."""
    chat_format: ChatFormat | None = None
    """Chat format of the policy; null: the tokenizer's own template, or a transcript if it has
    none."""
    enable_thinking: bool = False
    """Let the critic and the judge reason before they answer, if they support it; a policy never
    does."""
    reasoning_tokens: Count = 2048
    """Tokens that a model may use to reason before it answers, on top of max_tokens; also for a
    model on a server that reasons although it was asked not to."""

    @field_validator("judge")
    @classmethod
    def _judges_differ(cls, judge: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if judge == ():
            raise ValueError("must be the name of a model, or a list of at least one")
        if isinstance(judge, tuple):
            twice = [name for name, count in Counter(judge).items() if count > 1]
            if twice:
                raise ValueError(f"names {twice[0]} twice; name each judge once")
        return judge

    @field_validator("initial", "critic", "judge")
    @classmethod
    def _no_secret(cls, names: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for name in (names,) if isinstance(names, str) else names or ():
            is_url = name.startswith(("http://", "https://"))
            if is_url and holds_secret(name.partition("#")[0]):
                raise ValueError(
                    "contains a user, a password or a key; keep keys out of files, set "
                    "OPENAI_API_KEY"
                )
        return names


class RunConfig(Section):
    """All settings of a run.

    Every section has defaults, except ``prompts``.
    """

    constitution: str
    """A constitution's file, relative to the run file, or its name: a file in a folder
    ``constitution/`` beside the run file or above it, then in the working folder, then one that
    ships with the package."""
    seed: int = 0
    """Random seed of every sampling decision."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers to log training metrics to, in addition to ``log.jsonl``."""
    iterations: Count = 1
    """Number of times to compare, judge, train the reward model and run PPO; each further iteration
    compares answers of the previous iteration's policy, trains on the labels of all iterations, and
    starts PPO from the SL-CAI policy again."""
    algorithms: tuple[Algorithm, ...] = ("ppo",)
    """Algorithms that train a policy on the labels: ppo, dpo, both or none."""
    max_failed: Fraction = 0.5
    """Largest fraction of a stage's records that may be unusable; the run stops beyond it."""
    models: Models = Models()
    servers: Mapping[str, Server] = {}
    """Servers with settings of their own, by the names that ``models`` uses for them."""
    prompts: Prompts
    sample: Sampling = Sampling()
    revise: Revise = Revise()
    training: Training = Training()
    sft: SFT = SFT()
    compare: Compare = Compare()
    judge: Judge = Judge()
    audit: Audit = Audit()
    reward: Reward = Reward()
    ppo: PPO = PPO()
    constraint: Constraint = Constraint()
    monitor: Monitor = Monitor()
    dpo: DPO = DPO()
    evaluate: Evaluate = Evaluate()

    @field_validator("servers")
    @classmethod
    def _servers_have_places(cls, servers: Mapping[str, Server]) -> Mapping[str, Server]:
        for name, server in servers.items():
            try:
                list(addresses(name, {name: server}))
            except KeyError as error:
                known = ", ".join(providers())
                text = f"{name}.url must be a base URL or one of {known}, not {error.args[0]!r}"
                raise ValueError(text) from None
        return servers

    @model_validator(mode="after")
    def _iterations_need_ppo(self) -> RunConfig:
        if self.iterations > 1 and "ppo" not in self.algorithms:
            raise ValueError(
                f"iterations is {self.iterations}, but only ppo trains a policy for the next "
                "iteration: add ppo to algorithms"
            )
        return self

    @property
    def reasoning_tokens(self) -> int:
        """Tokens that critic and judge may reason with, on top of each answer."""
        return self.models.reasoning_tokens if self.models.enable_thinking else 0

    @property
    def trains_control(self) -> bool:
        """Whether a policy is fine-tuned on the answers to benign prompts alone."""
        return self.sft.control and self.prompts.benign is not None

    @property
    def critic_model(self) -> str:
        """Name of the model that writes critiques and revisions."""
        return self.models.critic or self.models.initial

    @property
    def judge_models(self) -> tuple[str, ...]:
        """Names of the models that label comparisons; most often one."""
        judge = self.models.judge or self.models.initial
        return (judge,) if isinstance(judge, str) else judge


class Data(Section):
    """Your own data files, relative to the training file, in any of the supported formats."""

    demonstrations: tuple[str, ...] = ()
    """Answers to imitate, for ``cai sft``."""
    preferences: tuple[str, ...] = ()
    """Labeled comparisons, for ``cai reward`` and ``cai dpo``; without demonstrations, ``cai sft``
    trains on their better answers."""
    prompts: tuple[str, ...] = ()
    """Prompts for ``cai ppo``; if empty, the prompts of the preferences."""
    limit: Count | None = None
    """Number of rows to use from each file; null: all."""


class TrainingConfig(Section):
    """All settings of the training commands ``cai sft``, ``cai reward``, ``cai ppo``, ``cai dpo``.

    No constitution is needed. Each command writes to ``out/<command>`` and starts from ``out/sft``
    if that exists, otherwise from ``model``.
    """

    model: str = "reference"
    """Model to start from: ``reference``, a model folder or a hub id."""
    out: str
    """Output folder."""
    reward_model: Name | None = None
    """Reward model to optimize, a folder or hub id with any tokenizer; null: the one trained by
    ``cai reward``."""
    chat_format: ChatFormat | None = None
    """Chat format of the policy; null: the tokenizer's own template, or a transcript if it has
    none."""
    seed: int = 0
    """Random seed of every sampling decision."""
    trackers: tuple[Tracker, ...] = ()
    """Experiment trackers to log training metrics to, in addition to the log file."""
    data: Data = Data()
    training: Training = Training()
    sft: SFT = SFT()
    reward: Reward = Reward()
    ppo: PPO = PPO()
    constraint: Constraint = Constraint()
    monitor: Monitor = Monitor()
    dpo: DPO = DPO()

    @field_validator("ppo")
    @classmethod
    def _no_judge(cls, ppo: PPO) -> PPO:
        if ppo.reward_source == "judge":
            raise ValueError("reward_source: judge needs a run file (cai run), which names a judge")
        return ppo

    @field_validator("monitor")
    @classmethod
    def _no_judge_in_monitor(cls, monitor: Monitor) -> Monitor:
        if monitor.judge:
            raise ValueError("judge: true needs a run file (cai run), which names a judge")
        return monitor
