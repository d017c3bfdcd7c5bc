"""The grader ``words``: whether an answer has one of some words."""

from __future__ import annotations

from collections.abc import Iterator

from cai.config.suite import Words
from cai.evaluate.graders.word_lists import word_list
from cai.evaluate.grades import Grade, Grading


def grade(settings: Words, grading: Grading) -> Iterator[Grade]:
    """Grade answers 1 that have a word of the list, others 0."""
    words = word_list(settings.list)
    for answer in grading.all_answers():
        found = words.found_in(answer.sample.response)
        yield grading.grade(answer, float(bool(found)), evidence={"found": found})
