"""The grader ``function``: a flag of a Python function, such as a gold function."""

from __future__ import annotations

from collections.abc import Iterator

from cai.config.suite import ByFunction
from cai.evaluate.gold import load_gold
from cai.evaluate.grades import Grade, Grading


def grade(settings: ByFunction, grading: Grading) -> Iterator[Grade]:
    """Grade each answer with the flag; an answer without the flag has no grade."""
    function = load_gold(settings.function)
    for answer in grading.all_answers():
        flags = function(answer.sample.prompt, answer.sample.response)
        value = flags.get(settings.flag)
        known = ", ".join(flags) or "nothing"
        reason = "" if value is not None else f"no {settings.flag}; the function returned {known}"
        yield grading.grade(
            answer,
            None if value is None else float(value),
            reason=reason,
            evidence={flag: float(number) for flag, number in flags.items()},
        )
