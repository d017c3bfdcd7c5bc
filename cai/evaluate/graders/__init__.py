"""The graders of suites, by the ``kind`` of their settings.

A grader is a function of its settings and a :class:`~cai.evaluate.grades.Grading` that yields one
:class:`~cai.evaluate.grades.Grade` for each answer. It never makes up a value: what it cannot grade
has a status and a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cai.config.suite import Pairwise, Suite
from cai.data.cases import Case, read_cases
from cai.evaluate.graders import (
    choice,
    diversity,
    flip,
    function,
    likelihood,
    pairwise,
    principle,
    rubric,
    words,
)
from cai.evaluate.grades import Grade, Grading
from cai.files import StrPath


def _prompts(path: StrPath, name: str, limit: int) -> tuple[list[Case], Mapping[str, int]]:
    """Read prompts, of which none is left out."""
    return read_cases(path, name, limit), {}


class Grader(NamedTuple):
    """A grader.

    Attributes:
        grade: Grades answers: ``grade(settings, grading)``.
        uses_judge: Whether it asks a judge.
        asks_models: Whether it asks the models itself, so that they answer nothing before.
        compares: Whether it compares models, so that there must be two.
        takes_scorers: Whether reward models and other scorers can take the place of models.
        more: Further results of a suite, by name, from all of its grades; None: nothing.
        read: Reads the cases of a file, with the name of their set and their number, 0 being all;
            also returns how many rows were left out, by reason.
    """

    grade: Callable[[Any, Grading], Iterable[Grade]]
    uses_judge: bool = False
    asks_models: bool = False
    compares: bool = False
    takes_scorers: bool = False
    more: Callable[[Suite, Sequence[Grade]], Mapping[str, Any]] | None = None
    read: Callable[[StrPath, str, int], tuple[list[Case], Mapping[str, int]]] = _prompts


GRADERS: dict[str, Grader] = {
    "words": Grader(words.grade),
    "principle": Grader(principle.grade, uses_judge=True),
    "rubric": Grader(rubric.grade, uses_judge=True),
    "function": Grader(function.grade),
    "flip": Grader(flip.grade),
    "likelihood": Grader(likelihood.grade, asks_models=True),
    "diversity": Grader(diversity.grade),
    "pairwise": Grader(pairwise.grade, uses_judge=True, compares=True, more=pairwise.more),
    "choice": Grader(
        choice.grade,
        asks_models=True,
        takes_scorers=True,
        more=choice.more,
        read=choice.read_choice_cases,
    ),
}
"""The graders by name."""


def grader_of(suite: Suite) -> Grader:
    """Return the grader of a suite.

    Args:
        suite: The suite.
    """
    grader = GRADERS[suite.grader.kind]
    if isinstance(suite.grader, Pairwise):
        return grader._replace(uses_judge=suite.grader.by == "judge")
    return grader
