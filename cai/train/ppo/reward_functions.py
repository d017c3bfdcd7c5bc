"""Python functions as PPO's reward, with the signature of TRL's reward functions.

A function is given what its parameters name::

    def brevity(completions, **kwargs):
        return [-len(completion[0]["content"]) / 100 for completion in completions]

``prompts`` and ``completions`` are lists of messages, as TRL gives them for conversations;
``completion_ids`` are token ids; ``answers`` are the answers as plain texts. Columns of a row are
``kind`` and ``prompt_id``. A function returns a number for each answer, or ``None``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from cai.config.training import RewardFunction
from cai.errors import InputError, Problem
from cai.functions import function_of
from cai.records import Prompt
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import code_digest


class FunctionScore:
    """The weighted sum of the scores of some functions: a reward source that reads texts.

    Args:
        functions: The functions with their weights.
        detokenizer: Turns the rollout's tokens into texts.
    """

    normalized = False

    def __init__(self, functions: Sequence[RewardFunction], detokenizer: Detokenizer) -> None:
        self.settings = functions
        self.functions = [function_of(setting.function) for setting in functions]
        self.detokenizer = detokenizer
        self._state = SimpleNamespace(global_step=0)
        self._logged: dict[str, list[float]] = {}

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        """Score each answer: ``[B]``, NaN where there is no score."""
        rows = self.detokenizer(prompts, answers)
        total = torch.zeros(len(rows))
        for setting, function in zip(self.settings, self.functions, strict=True):
            scores = self._scores(setting, function, rows, answers)
            if setting.optional:
                scores = scores.nan_to_num(0.0)
            total = total + setting.weight * scores
        return total

    def begin_update(self, update: int) -> None:
        """Forget what evaluations logged, and set the step that functions see."""
        self._state.global_step = update
        self._logged = {}

    def _scores(
        self,
        setting: RewardFunction,
        function: Callable[..., Any],
        rows: Sequence[tuple[Prompt, str]],
        answers: list[list[int]],
    ) -> Tensor:
        """Call a function: ``[B]``, NaN where it gives no score."""
        result = list(function(**_accepted(function, self._arguments(rows, answers))))
        if len(result) != len(rows):
            message = f"returned {len(result)} scores for {len(rows)} answers"
            raise InputError([Problem(setting.function, f"{message}; it must return one for each")])
        scores = [math.nan if value is None else float(value) for value in result]
        known = [value for value in scores if math.isfinite(value)]
        if known:
            self._log(f"reward_{setting.function.rpartition(':')[2]}", sum(known) / len(known))
        return torch.tensor([value if math.isfinite(value) else math.nan for value in scores])

    def _arguments(
        self, rows: Sequence[tuple[Prompt, str]], answers: list[list[int]]
    ) -> dict[str, Any]:
        return {
            "prompts": [[m.model_dump() for m in prompt.messages] for prompt, _ in rows],
            "completions": [[{"role": "assistant", "content": text}] for _, text in rows],
            "completion_ids": answers,
            "answers": [text for _, text in rows],
            "kind": [prompt.kind for prompt, _ in rows],
            "prompt_id": [prompt.id for prompt, _ in rows],
            "trainer_state": self._state,
            "log_metric": self._log,
            "log_extra": _drop,
        }

    def _log(self, name: str, value: float) -> None:
        self._logged.setdefault(name, []).append(float(value))

    def metrics(self) -> dict[str, float]:
        """Means of what was logged since the last call: each function's score, and its own."""
        logged, self._logged = self._logged, {}
        return {name: sum(values) / len(values) for name, values in logged.items()}

    def describe(self) -> dict[str, Any]:
        """Describe the source in JSON values that change with the functions' code."""
        functions = [
            setting.model_dump() | {"code": code_digest(function)}
            for setting, function in zip(self.settings, self.functions, strict=True)
        ]
        return {"type": "functions", "functions": functions}


def _accepted(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out the arguments that a function does not take."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return arguments
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in arguments.items() if name in names}


def _drop(column: str, values: object) -> None:
    """Take what TRL's table of completions would show; there is none here."""
    del column, values
