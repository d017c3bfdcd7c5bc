"""Constitutional AI: a model, an opinion in writing of how it should behave, and the way from one to the other.

The public names load lazily: ``import cai`` is fast and opens neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Constitution": "cai.constitution",
    "Principle": "cai.constitution",
    "load_constitution": "cai.constitution",
    "Message": "cai.records",
    "Prompt": "cai.records",
    "Sample": "cai.records",
    "Revision": "cai.records",
    "Comparison": "cai.records",
    "Preference": "cai.records",
    "Judgment": "cai.records",
    "open_backend": "cai.backends",
    "ResponseCache": "cai.backends.response_cache",
    "read_prompts": "cai.data.prompts",
    "read_preferences": "cai.data.preferences",
    "sample": "cai.feedback.sample",
    "revise": "cai.feedback.revise",
    "training_rows": "cai.feedback.revise",
    "rate": "cai.feedback.rate",
    "compare": "cai.feedback.compare",
    "judge": "cai.feedback.judge",
    "rank": "cai.feedback.rank",
    "Ranking": "cai.records",
    "PairwiseLogprobs": "cai.feedback.judge_methods",
    "CritiqueOdds": "cai.feedback.judge_methods",
    "ChainOfThought": "cai.feedback.judge_methods",
    "SampledVotes": "cai.feedback.judge_methods",
    "RunConfig": "cai.config",
    "load_config": "cai.config",
    "train_sft": "cai.train.sft",
    "train_reward": "cai.train.reward.trainer",
    "train_ppo": "cai.train.ppo.trainer",
    "train_dpo": "cai.train.dpo",
    "read_demonstrations": "cai.data.demonstrations",
    "open_run": "cai.pipeline.run",
    "execute": "cai.pipeline.execute",
    "CaiError": "cai.errors",
    "InputError": "cai.errors",
}

__all__ = sorted(_WHERE)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'cai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
