"""What can go wrong, as types: each carries what, where, what to do, and the exit code of the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one place of an input."""

    where: str  # "file:line:col", "file", or the name of an option
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def in_order(problem: Problem) -> tuple[list[str | int], str]:
    """Line 9 before line 10."""
    return [
        int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", problem.where)
    ], problem.message


class CaiError(Exception):
    """Base of all errors that a user can do something about."""

    exit_code = 1


class InputError(CaiError):
    """Input that cannot be used: all its problems at once."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (
            [Problem("", problems)]
            if isinstance(problems, str)
            else sorted(set(problems), key=in_order)
        )
        super().__init__("\n".join(map(str, self.problems)))


class ArgumentError(InputError, ValueError):
    """An argument of a Python function that cannot be used."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__([Problem(name, message)])


class LimitReached(CaiError):
    """A limit (disk, budget) stopped the work; the same command goes on where it stopped."""

    exit_code = 4


class RunFailed(CaiError):
    """Too many records failed, or training diverged."""

    exit_code = 5


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the nearest known word, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
