"""Settings of the stages that train: SFT, reward model, PPO and DPO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from cai.config.base import BelowHalf, Count, Fraction, Name, NonNegative, Positive, Section

Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
"""Learning rate schedules, by transformers' names for them."""


class Optimizer(Section):
    """AdamW and its learning rate, in every training stage."""

    lr_scheduler: Scheduler = "linear"
    """Schedule of the learning rate."""
    warmup_ratio: Fraction = 0.05
    """Fraction of the steps in which the learning rate rises."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """Norm to which gradients are clipped."""


class Training(Section):
    """Precision, memory, adapters and saved states of every training stage."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the forward and backward passes; weights and optimizer state stay in float32.
    auto: bfloat16 where the hardware is fast at it."""
    micro_batch_tokens: Count | None = None
    """Maximum tokens per forward pass and process, padding included; larger batches accumulate
    gradients. null: 1,024 on a CPU, 16,384 on an accelerator."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora_rank: Count | None = None
    """Rank of LoRA adapters to train instead of all weights; null: train all weights. Needs the
    ``lora`` extra."""
    lora_alpha: Positive = 16.0
    """LoRA scaling factor; adapters are scaled by lora_alpha / lora_rank."""
    lora_targets: tuple[str, ...] | None = None
    """Names of the layers to adapt; null: every linear layer except the output head."""
    merge_adapters: bool = False
    """Save the whole model with its adapters merged, instead of the adapters alone."""
    save_seconds: NonNegative = 300.0
    """Seconds between two saved states, from which an interrupted training continues; 0: after
    every step. Saving takes at most 5 % of the time."""
    save_total_limit: Count = 1
    """Saved states to keep."""
    optimizer: Optimizer = Optimizer()

    @property
    def decisive(self) -> dict[str, Any]:
        """The settings that the result depends on, beyond rounding.

        The others may change while a training is interrupted: after running out of memory, say.
        """
        indecisive = {
            "micro_batch_tokens",
            "gradient_checkpointing",
            "save_seconds",
            "save_total_limit",
        }
        return self.model_dump(exclude=indecisive)


class SFT(Section):
    """Supervised fine-tuning on the revisions."""

    epochs: Count = 2
    """Passes over the rows."""
    batch_size: Count = 32
    """Rows per optimizer step."""
    learning_rate: Positive = 1e-5
    """Peak learning rate; see ``training.optimizer``."""
    max_length: Count = 1024
    """Maximum tokens per row, and never more than the model can read; longer rows are left out and
    counted."""
    eval_fraction: Fraction = 0.0
    """Fraction of the prompts held out, with all their answers, to measure the loss on."""
    helpful: bool = True
    """Add the initial policy's own answers to benign prompts."""
    control: bool = True
    """Also train a control policy on those answers alone, to show what fine-tuning by itself
    does."""
    human: tuple[str, ...] = ()
    """Files of answers by people to imitate together with the revisions, relative to the run file;
    ``cai sft`` has ``data.demonstrations`` instead."""


class RewardEnsemble(Section):
    """Several reward models, trained alike except for head initialization and data order."""

    size: Count = 1
    """Number of reward models to train."""
    combine: Literal["mean", "min", "lower_confidence"] = "mean"
    """Score that PPO gets: the mean, the minimum, or the mean minus one standard deviation."""


class Reward(Section):
    """The reward model, and the labels it is trained on."""

    epochs: Count = 1
    """Passes over the labels."""
    batch_size: Count = 32
    """Prompts per optimizer step, each with all its comparisons."""
    learning_rate: Positive = 1e-5
    """Peak learning rate."""
    max_length: Count = 1024
    """Maximum tokens of prompt and answer, and never more than the model can read; labels with a
    longer answer are left out and counted."""
    eval_fraction: Fraction = 0.1
    """Fraction of the prompts held out, with all their labels, to measure the model."""
    min_margin: BelowHalf = 0.0
    """Labels closer to one half than this are not trained on."""
    weight_by_prompt: bool = False
    """Give every prompt the same weight (arXiv 2203.02155) instead of every label."""
    label_smoothing: BelowHalf = 0.0
    """Assumed probability that a label is wrong."""
    source_weights: Mapping[str, NonNegative] = Field(default_factory=dict)
    """Weight of the labels of each source, such as ``human: 2``; 1 if not listed."""
    length_control: bool = False
    """Remove the effect of answer length from the score; see ``length_coefficient`` in the
    metrics."""
    format_augmentation: Fraction = 0.0
    """Fraction of prompts that get an extra tie between an answer and a reformatted copy of it
    (bold, as a list, repeated ...)."""
    human: tuple[str, ...] = ()
    """Files of human preferences to train on together with the AI labels, relative to the run
    file."""
    test_sets: tuple[str, ...] = ()
    """Files of test pairs that are never trained on; the ``source`` of a pair names its test
    set."""
    min_test_set_accuracy: Fraction = 0.0
    """Stop after training the reward model if its accuracy on a test set is below this."""
    ensemble: RewardEnsemble = RewardEnsemble()


class RewardFunction(Section):
    """A Python function that scores answers; one written for TRL works as it is."""

    function: Name
    """The function, as ``module:function``; modules beside the run file are found first."""
    weight: float = 1.0
    """Weight of its score in the sum."""
    optional: bool = False
    """Let it add nothing to an answer that it does not score (``None``); otherwise such an answer
    has no score at all."""


class PPORollout(Section):
    """How PPO samples and scores the answers of an update."""

    batch_size: Count = 64
    """Answers per update."""
    samples_per_prompt: Count = 1
    """Answers per prompt; rloo and grpo need at least two."""
    temperature: Positive = 1.0
    """Sampling temperature; log-probabilities are taken at the same temperature."""
    max_tokens: Count = 256
    """Maximum tokens per answer."""
    missing_eos_score: float | None = None
    """Score of an answer that was cut off at max_tokens, on the scale of ``score_clip``; null: its
    own score."""
    reward_functions: tuple[RewardFunction, ...] = ()
    """Functions whose weighted scores are added to that of ``ppo.reward_source``."""
    normalize_scores: bool = True
    """Bring scores to mean 0 and standard deviation 1 over the answers of the starting policy,
    unless the reward model is normalized already, as those of ``cai reward`` are (arXiv
    1909.08593)."""
    score_clip: Positive | None = None
    """Clip scores to this distance from zero, and stop if their mean is beyond it, in standard
    deviations if they are normalized. null: 10 for normalized scores; other scores are not
    clipped."""
    benign_fraction: Fraction = 0.5
    """Fraction of benign prompts; the others are red-team prompts."""

    @model_validator(mode="after")
    def _whole_groups(self) -> PPORollout:
        if self.batch_size % self.samples_per_prompt:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of "
                f"samples_per_prompt {self.samples_per_prompt}"
            )
        return self


class PPO(Section):
    """Policy optimization against a reward, with a KL penalty."""

    num_updates: Count = 100
    """Number of policy updates."""
    method: Literal["ppo", "rloo", "grpo"] = "ppo"
    """Advantage estimator: GAE with a value model (ppo), or relative to the other answers to the
    same prompt (rloo, grpo)."""
    reward_source: Literal["reward_model", "judge", "functions"] = "reward_model"
    """Score to optimize: the reward model's, the judge's own rating of each answer (d-RLAIF, arXiv
    2309.00267), or that of ``rollout.reward_functions`` alone."""
    critic: Literal["model", "head"] = "model"
    """Value function: a separate model that starts from the reward model, or a second head on the
    policy."""
    epochs: Count = 4
    """Passes over the answers of an update."""
    num_minibatches: Count = 1
    """Optimizer steps per pass."""
    learning_rate: Positive = 1e-6
    """Peak learning rate of the policy."""
    value_learning_rate: Positive = 1e-5
    """Peak learning rate of the value model."""
    kl_coef: NonNegative = 0.05
    """KL penalty coefficient, per nat, against the reference policy."""
    adaptive_kl_target: Positive | None = None
    """Target KL per answer, in nats, toward which the coefficient adapts; null: fixed
    coefficient."""
    clip_range: Positive = 0.2
    """Clipping range of the probability ratio and of the value function."""
    gamma: Fraction = 1.0
    """Discount factor per token."""
    gae_lambda: Fraction = 0.95
    """GAE lambda: 1 uses full returns, 0 one-step value estimates."""
    target_kl: Positive | None = None
    """Skip the remaining epochs of an update once its approximate KL exceeds this; null: never."""
    ptx_coef: NonNegative = 0.0
    """Weight of an additional loss on the fine-tuning rows (PPO-ptx, arXiv 2203.02155)."""
    rollout: PPORollout = PPORollout()

    @model_validator(mode="after")
    def _complete(self) -> PPO:
        if self.method != "ppo" and self.rollout.samples_per_prompt < 2:
            raise ValueError(
                f"{self.method} compares the answers to a prompt: rollout.samples_per_prompt "
                "must be at least 2"
            )
        if self.reward_source == "functions" and not self.rollout.reward_functions:
            raise ValueError("reward_source functions needs rollout.reward_functions")
        return self


class Constraint(Section):
    """A second reward that PPO keeps above a bound while it maximizes the first."""

    model: Name | None = None
    """Reward model of the constraint, a folder or hub id; null: no constraint."""
    min: float = 0.0
    """Smallest mean score, in standard deviations of that model's training answers."""


class Onset(Section):
    """From which value on each signal says that a policy may exploit its reward.

    The defaults are those of ``docs/how-to/reward-hacking.md``. null: the signal says nothing.
    """

    baseline_updates: Count = 4
    """First updates, which later ones are compared with."""
    window: Count = 4
    """Last updates, over which a signal is averaged."""
    kl: Positive | None = None
    """KL from the reference policy, in nats per answer."""
    repeated: Fraction | None = None
    """Share of an update's answers that repeat others."""
    length: Positive | None = None
    """Change of the mean length, in standard deviations of the first updates' means."""
    score_length: Fraction | None = None
    """Correlation of score and length over the answers of an update, of either sign."""
    score_range: Positive | None = 3.0
    """Mean score, in standard deviations of the answers that the reward model was trained on (of
    the starting policy's answers if it is not normalized)."""
    score_spread: Positive | None = None
    """Rise of the disagreement of an ensemble, in standard deviations of the first updates."""
    second_score: Positive | None = None
    """Fall of the score of ``monitor.second_reward``, in standard deviations of the first
    updates."""
    second_disagreement: Positive | None = None
    """One minus the correlation of score and second score over the answers of an update."""
    format_raise: Positive | None = 0.5
    """Gain of the best perturbation, in standard deviations of the scores of an update; needs
    ``monitor.probed_answers``."""


class Monitor(Section):
    """What is measured while PPO runs, and when it stops early."""

    eval_every: Count | None = None
    """Updates between evaluations on held-out prompts; null: no evaluations."""
    eval_prompts: Count = 64
    """Held-out prompts per evaluation."""
    judge: bool = False
    """Use the judge's rating of each held-out answer, from 0 to 1, in place of the gold
    function."""
    keep: Literal["last", "best"] = "last"
    """Policy to keep: the last one, or the one with the best gold score (the best reward if there
    is no gold score)."""
    max_kl: Positive | None = None
    """Stop if the KL from the reference policy, in nats per answer, exceeds this; null: no
    limit."""
    min_entropy: NonNegative = 0.0
    """Stop if the entropy, in nats per token, is below this."""
    min_unique_fraction: Fraction = 0.0
    """Stop if fewer of an update's answers than this fraction are different from each other."""
    max_unscored: Fraction = 0.5
    """Stop if more of an update's answers than this fraction have no score."""
    patience: Count = 3
    """Consecutive updates for which a limit must be broken."""
    second_reward: Name | None = None
    """Second reward model, a folder or hub id, that scores every answer and is never trained on;
    null: none."""
    probed_answers: Count | None = None
    """Answers of each update that are scored again in every perturbation; null: none."""
    onset: Onset = Onset()


class DPO(Section):
    """Direct preference optimization: training on the labels without a reward model."""

    epochs: Count = 1
    """Passes over the labels."""
    batch_size: Count = 32
    """Prompts per optimizer step, each with all its comparisons."""
    learning_rate: Positive = 1e-6
    """Peak learning rate."""
    beta: Positive = 0.1
    """Strength of the KL regularization toward the reference policy."""
    loss: Literal["dpo", "ipo"] = "dpo"
    """dpo: logistic loss on summed log-probabilities; ipo: squared loss on mean
    log-probabilities."""
    label_smoothing: BelowHalf = 0.0
    """Assumed probability that a label is wrong (conservative DPO)."""
    max_length: Count = 1024
    """Maximum tokens of prompt and answer, and never more than the model can read; labels with a
    longer answer are left out and counted."""
    eval_fraction: Fraction = 0.0
    """Fraction of the prompts held out, with all their labels, to measure the policy."""
