"""Constitutional AI: train a language model to follow a constitution that you write.

The names below are imported when they are first used, so ``import cai`` is fast and loads neither
torch nor transformers.

Example:
    >>> import cai
    >>> constitution = cai.load_constitution("reference")
    >>> constitution.principles["reference/insult"].title
    'No insults'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_MODULES = {
    "open_backend": "cai.backends",
    "Budget": "cai.backends.budget",
    "Backend": "cai.backends.protocol",
    "Completion": "cai.backends.protocol",
    "GenerateRequest": "cai.backends.protocol",
    "LoglikelihoodRequest": "cai.backends.protocol",
    "Model": "cai.backends.protocol",
    "OptionLogprobs": "cai.backends.protocol",
    "ResponseCache": "cai.backends.response_cache",
    "ScriptedBackend": "cai.backends.scripted",
    "DPO": "cai.config",
    "PPO": "cai.config",
    "SFT": "cai.config",
    "Constraint": "cai.config",
    "Monitor": "cai.config",
    "PPORollout": "cai.config",
    "Reward": "cai.config",
    "RewardEnsemble": "cai.config",
    "RunConfig": "cai.config",
    "Training": "cai.config",
    "TrainingConfig": "cai.config",
    "load_config": "cai.config",
    "Suite": "cai.config.suite",
    "load_suite": "cai.config.suite_files",
    "load_training": "cai.config",
    "Constitution": "cai.constitution",
    "Principle": "cai.constitution",
    "load_constitution": "cai.constitution",
    "read_answers": "cai.data.answers",
    "ChoiceQuestion": "cai.data.choices",
    "read_choices": "cai.data.choices",
    "read_demonstrations": "cai.data.demonstrations",
    "read_pairs": "cai.data.pairs",
    "read_preferences": "cai.data.preferences",
    "read_prompts": "cai.data.prompts",
    "Case": "cai.data.cases",
    "read_cases": "cai.data.cases",
    "ArgumentError": "cai.errors",
    "CaiError": "cai.errors",
    "InputError": "cai.errors",
    "LimitReached": "cai.errors",
    "RunFailed": "cai.errors",
    "Outcome": "cai.evaluate.bradley_terry",
    "rate_models": "cai.evaluate.bradley_terry",
    "clustered_mean": "cai.evaluate.intervals",
    "clustered_share": "cai.evaluate.intervals",
    "paired_difference": "cai.evaluate.intervals",
    "Judged": "cai.evaluate.judge_error",
    "prediction_powered": "cai.evaluate.judge_error",
    "rogan_gladen": "cai.evaluate.judge_error",
    "length_controlled": "cai.evaluate.length_control",
    "choice_figures": "cai.evaluate.choice_figures",
    "ChoiceResult": "cai.evaluate.choice_results",
    "LetterLogprobs": "cai.evaluate.choice_methods",
    "TextLogprobs": "cai.evaluate.choice_methods",
    "ThoughtThenLetter": "cai.evaluate.choice_thoughts",
    "score_choices": "cai.evaluate.choice_methods",
    "Grade": "cai.evaluate.grades",
    "run_suite": "cai.evaluate.suites",
    "suite_results": "cai.evaluate.suites",
    "compare": "cai.feedback.compare",
    "judge": "cai.feedback.judge",
    "ChainOfThought": "cai.feedback.sampled_verdicts",
    "CritiqueOdds": "cai.feedback.judge_methods",
    "PairwiseLogprobs": "cai.feedback.judge_methods",
    "SampledVotes": "cai.feedback.sampled_verdicts",
    "rank": "cai.feedback.rank",
    "Rating": "cai.feedback.rate",
    "rate": "cai.feedback.rate",
    "revise": "cai.feedback.revise",
    "training_rows": "cai.feedback.revise",
    "sample": "cai.feedback.sample",
    "execute": "cai.pipeline.execute",
    "open_run": "cai.pipeline.run",
    "Comparison": "cai.records",
    "Judgment": "cai.records",
    "Message": "cai.records",
    "Preference": "cai.records",
    "Prompt": "cai.records",
    "Ranking": "cai.records",
    "Revision": "cai.records",
    "Sample": "cai.records",
    "train_dpo": "cai.train.dpo",
    "TrainerOptions": "cai.train.options",
    "PPOInputs": "cai.train.ppo.setup",
    "train_ppo": "cai.train.ppo.trainer",
    "train_reward": "cai.train.reward.trainer",
    "train_sft": "cai.train.sft",
}
"""The public names and the modules that they are in."""

__all__ = sorted(_MODULES)

if TYPE_CHECKING:  # the same names for type checkers and editors
    from cai.backends import open_backend as open_backend
    from cai.backends.budget import Budget as Budget
    from cai.backends.protocol import Backend as Backend
    from cai.backends.protocol import Completion as Completion
    from cai.backends.protocol import GenerateRequest as GenerateRequest
    from cai.backends.protocol import LoglikelihoodRequest as LoglikelihoodRequest
    from cai.backends.protocol import Model as Model
    from cai.backends.protocol import OptionLogprobs as OptionLogprobs
    from cai.backends.response_cache import ResponseCache as ResponseCache
    from cai.backends.scripted import ScriptedBackend as ScriptedBackend
    from cai.config import DPO as DPO
    from cai.config import PPO as PPO
    from cai.config import SFT as SFT
    from cai.config import Constraint as Constraint
    from cai.config import Monitor as Monitor
    from cai.config import PPORollout as PPORollout
    from cai.config import Reward as Reward
    from cai.config import RewardEnsemble as RewardEnsemble
    from cai.config import RunConfig as RunConfig
    from cai.config import Training as Training
    from cai.config import TrainingConfig as TrainingConfig
    from cai.config import load_config as load_config
    from cai.config import load_training as load_training
    from cai.config.suite import Suite as Suite
    from cai.config.suite_files import load_suite as load_suite
    from cai.constitution import Constitution as Constitution
    from cai.constitution import Principle as Principle
    from cai.constitution import load_constitution as load_constitution
    from cai.data.answers import read_answers as read_answers
    from cai.data.cases import Case as Case
    from cai.data.cases import read_cases as read_cases
    from cai.data.choices import ChoiceQuestion as ChoiceQuestion
    from cai.data.choices import read_choices as read_choices
    from cai.data.demonstrations import read_demonstrations as read_demonstrations
    from cai.data.pairs import read_pairs as read_pairs
    from cai.data.preferences import read_preferences as read_preferences
    from cai.data.prompts import read_prompts as read_prompts
    from cai.errors import ArgumentError as ArgumentError
    from cai.errors import CaiError as CaiError
    from cai.errors import InputError as InputError
    from cai.errors import LimitReached as LimitReached
    from cai.errors import RunFailed as RunFailed
    from cai.evaluate.bradley_terry import Outcome as Outcome
    from cai.evaluate.bradley_terry import rate_models as rate_models
    from cai.evaluate.choice_figures import choice_figures as choice_figures
    from cai.evaluate.choice_methods import LetterLogprobs as LetterLogprobs
    from cai.evaluate.choice_methods import TextLogprobs as TextLogprobs
    from cai.evaluate.choice_methods import score_choices as score_choices
    from cai.evaluate.choice_results import ChoiceResult as ChoiceResult
    from cai.evaluate.choice_thoughts import ThoughtThenLetter as ThoughtThenLetter
    from cai.evaluate.grades import Grade as Grade
    from cai.evaluate.intervals import clustered_mean as clustered_mean
    from cai.evaluate.intervals import clustered_share as clustered_share
    from cai.evaluate.intervals import paired_difference as paired_difference
    from cai.evaluate.judge_error import Judged as Judged
    from cai.evaluate.judge_error import prediction_powered as prediction_powered
    from cai.evaluate.judge_error import rogan_gladen as rogan_gladen
    from cai.evaluate.length_control import length_controlled as length_controlled
    from cai.evaluate.suites import run_suite as run_suite
    from cai.evaluate.suites import suite_results as suite_results
    from cai.feedback.compare import compare as compare
    from cai.feedback.judge import judge as judge
    from cai.feedback.judge_methods import CritiqueOdds as CritiqueOdds
    from cai.feedback.judge_methods import PairwiseLogprobs as PairwiseLogprobs
    from cai.feedback.rank import rank as rank
    from cai.feedback.rate import Rating as Rating
    from cai.feedback.rate import rate as rate
    from cai.feedback.revise import revise as revise
    from cai.feedback.revise import training_rows as training_rows
    from cai.feedback.sample import sample as sample
    from cai.feedback.sampled_verdicts import ChainOfThought as ChainOfThought
    from cai.feedback.sampled_verdicts import SampledVotes as SampledVotes
    from cai.pipeline.execute import execute as execute
    from cai.pipeline.run import open_run as open_run
    from cai.records import Comparison as Comparison
    from cai.records import Judgment as Judgment
    from cai.records import Message as Message
    from cai.records import Preference as Preference
    from cai.records import Prompt as Prompt
    from cai.records import Ranking as Ranking
    from cai.records import Revision as Revision
    from cai.records import Sample as Sample
    from cai.train.dpo import train_dpo as train_dpo
    from cai.train.options import TrainerOptions as TrainerOptions
    from cai.train.ppo.setup import PPOInputs as PPOInputs
    from cai.train.ppo.trainer import train_ppo as train_ppo
    from cai.train.reward.trainer import train_reward as train_reward
    from cai.train.sft import train_sft as train_sft
else:

    def __getattr__(name):
        """Import a public name when it is first used."""
        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        raise AttributeError(f"module 'cai' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names too, for completion in a shell."""
    return sorted({*globals(), *_MODULES})
