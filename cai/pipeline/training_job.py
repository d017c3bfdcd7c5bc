"""From a training set to a trained model: what ``cai run`` and the training commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.config import RunConfig, TrainingConfig
from cai.data.preferences import read_preferences
from cai.pipeline.reporter import Reporter
from cai.pipeline.training_log import LogFile, training_log
from cai.records import Preference, Prompt

if TYPE_CHECKING:
    from cai.train.options import TrainerOptions
    from cai.train.ppo.detokenize import Detokenizer
    from cai.train.ppo.evaluation import GoldReward
    from cai.train.ppo.judge_reward import Rater
    from cai.train.ppo.rewards import ScoreFunction

Metrics = dict[str, Any]
Rows = Sequence[tuple[Prompt, str]]


@dataclass(frozen=True)
class TrainingJob:
    """One training: where it starts, where it goes, and what all trainers are given.

    Attributes:
        out: The folder of the trained model.
        log_path: The log of the training.
        name: What experiment trackers call it.
        base: The folder that relative paths start from.
        config: The settings of the run or training file.
        reporter: Where progress is shown.
    """

    out: Path
    log_path: Path
    name: str
    base: Path
    config: RunConfig | TrainingConfig
    reporter: Reporter

    @property
    def chat_format(self) -> str:
        """The chat format of the policy; empty: that of its tokenizer."""
        config = self.config
        name = config.models.chat_format if isinstance(config, RunConfig) else config.chat_format
        return name or ""

    @property
    def options(self) -> TrainerOptions:
        """The options that all trainers share."""
        from cai.train.engine import with_trackers
        from cai.train.options import TrainerOptions

        log = training_log(self.log_path, self.reporter)
        return TrainerOptions(
            training=self.config.training,
            chat_format=self.chat_format,
            seed=self.config.seed,
            log=with_trackers(log, self.config.trackers, self.name, self.log_path.parent),
        )

    def train_sft(self, rows: Rows, start: str) -> Metrics:
        """Fine-tune a model on answers.

        Args:
            rows: Prompts and the answers to imitate.
            start: The model to start from, a folder or hub id.
        """
        from cai.train.sft import train_sft

        return dict(train_sft(rows, start, self.out, self.config.sft, options=self.options))

    def train_reward(self, preferences: Sequence[Preference], start: str) -> Metrics:
        """Train a reward model, or an ensemble, and check it on the test sets of the settings.

        Args:
            preferences: Labeled comparisons.
            start: The model to start from, a folder or hub id.

        Raises:
            RunFailed: If its accuracy on a test set is below ``reward.min_test_set_accuracy``.
        """
        from cai.evaluate.test_sets import check_test_sets
        from cai.train.reward.trainer import train_reward

        config = self.config.reward
        metrics: Metrics = dict(
            train_reward(preferences, start, self.out, config, options=self.options)
        )
        pairs: list[Preference] = []
        for name in config.test_sets:
            pairs += read_preferences(self.base / name).preferences
        if pairs:
            metrics["test_sets"] = check_test_sets(
                str(self.out), pairs, min_accuracy=config.min_test_set_accuracy
            )
        return metrics

    def train_ppo(
        self,
        prompts: Sequence[Prompt],
        start: str,
        reward_model: str | None,
        *,
        eval_prompts: Sequence[Prompt] = (),
        ptx_rows: Rows = (),
        rater: Rater | None = None,
        gold: GoldReward | None = None,
    ) -> Metrics:
        """Optimize a policy against a reward.

        Args:
            prompts: Prompts to answer.
            start: The policy to start from, a folder or hub id.
            reward_model: The reward model, from which the value model starts; None if functions
                are the reward.
            eval_prompts: Held-out prompts to evaluate the policy on while it is trained.
            ptx_rows: Fine-tuning rows of the PPO-ptx loss.
            rater: Rates answers in place of the reward model.
            gold: Says how good answers to held-out prompts are.
        """
        from cai.train.ppo.actor_critic import has_critic_model
        from cai.train.ppo.detokenize import Detokenizer
        from cai.train.ppo.recorded import AnswerRecorder
        from cai.train.ppo.rewards import load_constraint, load_second
        from cai.train.ppo.trainer import PPOInputs, train_ppo

        config = self.config
        evaluated = eval_prompts[: config.monitor.eval_prompts]
        detokenizer = Detokenizer([*prompts, *evaluated], start, self.chat_format)
        return train_ppo(
            prompts,
            start,
            self.out,
            config.ppo,
            reward_model=reward_model if has_critic_model(config.ppo) else None,
            score=self._score(reward_model, rater, detokenizer),
            inputs=PPOInputs(
                monitor=config.monitor,
                eval_prompts=eval_prompts,
                gold=gold,
                ptx_examples=ptx_rows,
                constraint=load_constraint(config.constraint, self.base, detokenizer),
                second=load_second(config.monitor, self.base, detokenizer),
                record=AnswerRecorder(detokenizer, self._answers_file.append),
            ),
            options=self.options,
        )

    @property
    def _answers_file(self) -> LogFile:
        """Where PPO records some answers of each update: beside the log."""
        name = self.log_path.name.replace("log.jsonl", "answers.jsonl")
        return LogFile(self.log_path.with_name(name))

    def _score(
        self, reward_model: str | None, rater: Rater | None, detokenizer: Detokenizer
    ) -> ScoreFunction:
        """The reward of PPO: the reward model or the judge, functions, or both together."""
        from cai.train.ppo.judge_reward import JudgeScore
        from cai.train.ppo.reward_functions import FunctionScore
        from cai.train.ppo.rewards import WeightedSum, reward_scorer

        settings = self.config.ppo
        terms = settings.rollout.reward_functions
        if settings.reward_source == "functions":
            return FunctionScore(terms, detokenizer)
        combine = self.config.reward.ensemble.combine
        score: ScoreFunction
        if rater is not None:
            score = JudgeScore(detokenizer, rater)
        else:
            assert reward_model is not None
            score = reward_scorer(reward_model, combine, detokenizer)
        if not terms:
            return score
        return WeightedSum([(score, 1.0), (FunctionScore(terms, detokenizer), 1.0)])

    def train_dpo(self, preferences: Sequence[Preference], start: str) -> Metrics:
        """Optimize a policy on labels, without a reward model.

        Args:
            preferences: Labeled comparisons.
            start: The policy to start from, a folder or hub id.
        """
        from cai.train.dpo import train_dpo

        return dict(train_dpo(preferences, start, self.out, self.config.dpo, options=self.options))
