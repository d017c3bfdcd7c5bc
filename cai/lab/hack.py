"""Reward hacking with a known cause: a bias of known strength in an exact reward.

The reward is what the gold function calls the quality of an answer, so that without a bias nothing
can be exploited. Everything that is visible without gold is logged beside it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean, pstdev

import torch
from torch import Tensor

from cai.config import RunConfig
from cai.errors import InputError, Problem
from cai.evaluate.exploits import exploits
from cai.evaluate.gold import GoldMetrics, gold_for
from cai.files import read_records
from cai.keys import digest
from cai.lab.cases import HONEST, Case, Row
from cai.models.load import fingerprint
from cai.pipeline.reporter import Reporter
from cai.pipeline.training_log import training_log
from cai.records import Comparison, Prompt
from cai.train.options import TrainerOptions
from cai.train.ppo.biased_score import BiasedScore
from cai.train.ppo.detokenize import Detokenizer
from cai.train.ppo.rewards import RewardSource, code_digest, reward_scorer
from cai.train.ppo.trainer import PPOInputs, train_ppo
from cai.train.reward.biases import BIASES, bias_score
from cai.train.reward.perturbations import Answer

TRAINING_SETS = ("red_team", "benign")
POLICY = "sl_cai"
"""What comparisons call the policy that every case starts from."""
PROBED = 48
"""Answers that the reward is tried on before a run."""
GOLD, QUALITY = "good", "quality"
"""Flags of the gold function: whether an answer is good, and how good it is, from 0 to 1."""


class QualityScore:
    """The quality of an answer by the gold function, as a reward source.

    Args:
        gold: The gold function.
        detokenizer: Turns the rollout's tokens into texts.
        mean: Mean quality of the answers to start from; a score of 0.
        std: Their standard deviation; a score of 1 is this much better.
    """

    normalized = True

    def __init__(
        self, gold: GoldMetrics, detokenizer: Detokenizer, mean: float, std: float
    ) -> None:
        self.gold, self.detokenizer, self.mean, self.std = gold, detokenizer, mean, std
        self._metrics: dict[str, float] = {}

    def __call__(self, prompts: list[list[int]], answers: list[list[int]]) -> Tensor:
        """Score each answer: ``[B]``."""
        rows = self.detokenizer(prompts, answers)
        self._metrics = {"gold": fmean(self.gold(*row)[GOLD] for row in rows)}
        for name in BIASES:
            self._metrics[f"bias_{name}"] = fmean(bias_score(name, text) for _, text in rows)
        return torch.tensor(self.score_texts(rows))

    def score_texts(self, answers: Sequence[Answer]) -> list[float]:
        """Score answers as texts."""
        return [(self.gold(*row)[QUALITY] - self.mean) / self.std for row in answers]

    def metrics(self) -> dict[str, float]:
        """The share of good answers in the last call, and how much of each bias they had."""
        return self._metrics

    def describe(self) -> dict[str, object]:
        """Describe the source in JSON values."""
        scale = [self.mean, self.std]
        return {"type": "quality", "code": code_digest(type(self.gold)), "scale": scale}


@dataclass(frozen=True)
class Laboratory:
    """A run up to its reward model, and what is trained from it.

    Attributes:
        folder: The folder of the run.
        config: Its settings; ``ppo`` and ``monitor`` are those of every case.
        reporter: Where progress is shown.
    """

    folder: Path
    config: RunConfig
    reporter: Reporter

    @property
    def policy(self) -> str:
        """The policy that every case starts from."""
        return str(self.folder / "sft" / "checkpoint")

    @property
    def table(self) -> Path:
        """The file with a row for every case that is done."""
        return self.folder / "lab" / "hack.jsonl"

    @cached_property
    def gold(self) -> GoldMetrics:
        """The gold function of the run.

        Raises:
            InputError: If it does not say how good an answer is as a whole.
        """
        gold = gold_for(self.config.evaluate.gold, [self.config.models.initial])
        prompt, answer = self.answers[0]
        if gold is None or not {GOLD, QUALITY} <= set(gold(prompt, answer)):
            text = (
                f"must return {GOLD!r} and {QUALITY!r} for every answer, as examples/lab.yaml does"
            )
            raise InputError([Problem("evaluate.gold", text)])
        return gold

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts to train on."""
        prompts = read_records(self.folder / "prompts" / "records.jsonl", Prompt)
        return [prompt for prompt in prompts if prompt.kind in TRAINING_SETS]

    @cached_property
    def answers(self) -> list[Answer]:
        """The answers that the reward model was trained on."""
        return [(pair.prompt, text) for pair in self.pairs for text in (pair.first, pair.second)]

    @cached_property
    def own_answers(self) -> list[Answer]:
        """Those of them that are by the policy to start from, each once."""
        own = {
            (pair.prompt.id, text): (pair.prompt, text)
            for pair in self.pairs
            for text, origin in zip((pair.first, pair.second), pair.origins, strict=True)
            if origin == POLICY
        }
        return list(own.values())

    @cached_property
    def pairs(self) -> list[Comparison]:
        """The comparisons of the run."""
        return read_records(self.folder / "compare" / "records.jsonl", Comparison)

    @cached_property
    def detokenizer(self) -> Detokenizer:
        """Turns token ids of the policy into texts."""
        return Detokenizer(self.prompts, self.policy)

    @cached_property
    def quality(self) -> QualityScore:
        """The reward without a bias."""
        values = [self.gold(*row)[QUALITY] for row in self.answers]
        return QualityScore(self.gold, self.detokenizer, fmean(values), pstdev(values))

    @cached_property
    def second(self) -> RewardSource:
        """The run's own reward model, which no case is trained on."""
        return reward_scorer(
            str(self.folder / "reward" / "checkpoint"), detokenizer=self.detokenizer
        )

    @cached_property
    def digest(self) -> str:
        """A digest of everything that a row depends on, besides its case."""
        return digest(
            [
                fingerprint(self.policy),
                fingerprint(str(self.folder / "reward" / "checkpoint")),
                self.config.ppo.model_dump(),
                self.config.monitor.model_dump(exclude={"onset"}),
                self.config.training.decisive,
                self.quality.describe(),
                {name: bias.model_dump() for name, bias in BIASES.items()},
            ]
        )

    def run(self, case: Case) -> Row:
        """Train one case, or go on with it where it was interrupted.

        Args:
            case: The case.

        Returns:
            Its row: the case, what the pre-flight found, the share of good answers at the start,
            and the metrics of every update.
        """
        started = time.monotonic()
        folder = self.table.parent / case.name
        score: RewardSource = self.quality
        if case.bias != HONEST:
            score = BiasedScore(self.quality, self.detokenizer, case.bias, case.strength)
        options = TrainerOptions(
            training=self.config.training,
            seed=case.seed,
            log=training_log(folder / "log.jsonl", self.reporter),
        )
        train_ppo(
            self.prompts,
            self.policy,
            folder / "policy",
            self.config.ppo,
            score=score,
            inputs=PPOInputs(monitor=self.config.monitor, second=self.second),
            options=options,
        )
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        row = {**case._asdict(), "digest": self.digest, "raised": self._raised(case)}
        row["start"] = round(fmean(self._good(self.own_answers)), 4)
        row["updates"] = [_rounded(json.loads(line)) for line in lines]
        row["seconds"] = round(time.monotonic() - started, 1)
        shutil.rmtree(folder)
        return row

    def _raised(self, case: Case) -> dict[str, float]:
        """What the pre-flight finds: the raise of each perturbation at constant gold."""
        answers = self.answers[:PROBED]
        found = exploits(partial(self._score_texts, case), answers, self._good)
        return {exploit.perturbation: round(exploit.raised, 4) for exploit in found}

    def _score_texts(self, case: Case, answers: Sequence[Answer]) -> list[float]:
        scores = self.quality.score_texts(answers)
        if case.bias == HONEST:
            return scores
        biases = [bias_score(case.bias, text) for _, text in answers]
        return [s + case.strength * b for s, b in zip(scores, biases, strict=True)]

    def _good(self, answers: Sequence[Answer]) -> list[float]:
        return [self.gold(*answer)[GOLD] for answer in answers]


def _rounded(row: dict[str, object]) -> dict[str, object]:
    """Leave out the times, which differ from machine to machine, and digits that mean nothing."""
    return {
        name: round(value, 5) if isinstance(value, float) else value
        for name, value in row.items()
        if not name.endswith("_seconds")
    }
