"""An experiment: a file that says which runs to compare, what to measure and what to expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from cai import shipped
from cai.config.base import Name, Positive, Section
from cai.documents import load, problems_of
from cai.errors import InputError, Problem, did_you_mean

BASE = "base.yaml"
"""The run file that every experiment starts from."""


class Labels(Section):
    """A change of the judge's labels before the reward model learns from them."""

    kind: Literal["hard", "clamped", "flipped", "gold"]
    """``hard``: 0, one half or 1. ``clamped``: from 0.4 to 0.6. ``flipped``: a share of the labels
    is reversed. ``gold``: a share of the labels is replaced by the truth."""
    share: float = Field(default=1.0, ge=0.0, le=1.0)
    """The share of labels that is flipped or replaced."""


class Arm(Section):
    """One of the runs that an experiment compares."""

    settings: Mapping[str, Any] = {}
    """Settings that differ from those of the base, by their dotted names."""
    labels: Labels | None = None
    """How the labels are changed."""
    principles: int | None = Field(default=None, ge=1)
    """Number of principles that are kept for critiques and revisions; null: all."""


class Finding(Section):
    """A difference that the paper reports, and what it is called if it shows."""

    says: Name
    """The finding, as a sentence."""
    series: Name
    """The measure that it is about."""
    more: str
    """The arm, or the point on the x axis, whose value is expected to be larger."""
    less: str
    """The one whose value is expected to be smaller."""
    within: Positive | None = None
    """If given, the finding is that the two differ by no more than this."""


class Experiment(Section):
    """An experiment file."""

    title: Name
    """What the figure shows."""
    source: Name
    """The paper and its figure."""
    about: Name
    """What is compared here, and how it differs from the paper."""
    measure: Literal[
        "metrics",
        "policies",
        "rounds",
        "revisions",
        "calibration",
        "labels",
        "elo",
        "absolute",
        "distance",
    ]
    """How the runs are measured, see :mod:`cai.paper.measures`."""
    until: str = ""
    """The last stage of the runs; empty: all."""
    x: Name
    """Title of the x axis."""
    y: Name
    """Title of the y axis."""
    settings: Mapping[str, Any] = {}
    """Settings of all arms that differ from those of the base."""
    arms: Mapping[str, Arm] = Field(min_length=1)
    """The runs by name; names that are numbers are drawn as numbers."""
    series: Mapping[str, str] = {}
    """For ``metrics``: what is measured, as a path in ``metrics.json`` by title; a minus in front
    takes one minus the value."""
    findings: tuple[Finding, ...] = ()
    """What the paper found."""

    @model_validator(mode="after")
    def _metrics_have_series(self) -> Experiment:
        if (self.measure == "metrics") != bool(self.series):
            raise ValueError("series are needed for measure: metrics, and only for it")
        return self


def folder() -> Path:
    """Return the folder of the shipped experiments."""
    return shipped.folder("examples") / "paper"


def names() -> list[str]:
    """Return the names of the shipped experiments."""
    return sorted(path.stem for path in folder().glob("*.yaml") if path.name != BASE)


def load_experiment(name: str) -> Experiment:
    """Read a shipped experiment, or the file of another one.

    Args:
        name: Its name or its path.

    Raises:
        InputError: If there is none, or with every problem of the file.
    """
    path = folder() / f"{name}.yaml"
    if name not in names():
        path = Path(name)
        if not path.is_file():
            known = f"there are {', '.join(names())}"
            text = f"there is no such experiment{did_you_mean(name, names())}; {known}"
            raise InputError([Problem(name, text)])
    document = load(path)
    try:
        return Experiment.model_validate(document.value)
    except ValidationError as error:
        raise InputError(list(problems_of(error, Experiment, document, ()))) from None
