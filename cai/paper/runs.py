"""The runs of an experiment: each arm starts from a copy of the base run of its seed.

A run does only the stages that its settings touch, so arms that differ in the reward model share
their answers, revisions and labels. Arms that are equal are one run, also of different experiments.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai.config import RunConfig
from cai.config.load import load_settings
from cai.constitution import Constitution, load_constitution
from cai.constitution.load import find_constitution
from cai.errors import InputError, Problem
from cai.evaluate.gold import GoldMetrics, gold_for
from cai.files import whole_folder
from cai.keys import digest, draw_many
from cai.paper.experiment import BASE, Arm, folder
from cai.paper.relabel import relabel
from cai.pipeline.execute import execute
from cai.pipeline.lock import LOCK, OWNER
from cai.pipeline.reporter import Reporter
from cai.pipeline.run import Run, open_run

SHARED = "judge"
"""The last stage of the base runs; what comes after it is done by each arm."""


class Runs:
    """Does the runs of experiments, each once.

    Args:
        out: The folder that the runs are in.
        reporter: Where they report what they do.
    """

    def __init__(self, out: Path, reporter: Reporter) -> None:
        self.out, self.reporter = out, reporter
        self.base = folder()

    def run(self, arm: Arm, settings: Mapping[str, Any], seed: int, until: str) -> Run:
        """Do the run of an arm as far as it is not done.

        Args:
            arm: The arm.
            settings: Settings of all arms of its experiment.
            seed: The seed of the run.
            until: The last stage to do; empty: all.

        Returns:
            The run, which is not open for work any more.
        """
        key = digest([arm.model_dump(mode="json"), dict(settings), seed], 10)
        path = self.out / f"{key}-seed{seed}"
        if not path.exists():
            self._copy_base(seed, path)
        config = self._settings({**settings, **arm.settings}, seed)
        constitution = kept(self._constitution(config), arm)
        if arm.labels is None:
            return self._do(path, config, constitution, until)
        run = self._do(path, config, constitution, "judge")
        relabel(path / "judge", arm.labels, gold_of(config), seed)
        return self._do(path, config, run.constitution, until)

    def _copy_base(self, seed: int, path: Path) -> None:
        """Copy the base run of a seed; done first if there is none."""
        config = self._settings({}, seed)
        source = self.out / f"base-seed{seed}"
        self._do(source, config, self._constitution(config), SHARED)
        with whole_folder(path) as begun:
            shutil.copytree(source, begun, ignore=shutil.ignore_patterns(LOCK, OWNER))

    def _settings(self, settings: Mapping[str, Any], seed: int) -> RunConfig:
        return load_settings(self.base / BASE, {**settings, "seed": seed})

    def _constitution(self, config: RunConfig) -> Constitution:
        return load_constitution(find_constitution(config.constitution, self.base))

    def _do(self, path: Path, config: RunConfig, constitution: Constitution, until: str) -> Run:
        with open_run(path, config, constitution, self.base, self.reporter) as run:
            execute(run, until=until)
        return run


def kept(constitution: Constitution, arm: Arm) -> Constitution:
    """Return a constitution with as many principles for revisions as an arm keeps.

    Args:
        constitution: The constitution.
        arm: The arm; the principles are drawn by their weights, so that fewer are among more.
    """
    if arm.principles is None:
        return constitution
    weights = constitution.used_for("revise")
    drawn = draw_many(weights, arm.principles, "principles that are kept")
    return constitution.without(*(name for name in weights if name not in drawn))


def gold_of(config: RunConfig) -> GoldMetrics:
    """Return the gold metrics of a run.

    Args:
        config: Its settings.

    Raises:
        InputError: If it has none.
    """
    gold = gold_for(config.evaluate.gold, [config.models.initial])
    if gold is None:
        raise InputError([Problem("evaluate.gold", "is needed: an experiment measures the truth")])
    return gold
