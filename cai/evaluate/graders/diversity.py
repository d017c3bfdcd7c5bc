"""The grader ``diversity``: how much several answers of a model to one prompt differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from cai.config.suite import Diversity
from cai.evaluate.grades import Answer, Grade, Grading
from cai.evaluate.statistics import mean
from cai.words import words

NGrams = list[tuple[str, ...]]


def grade(settings: Diversity, grading: Grading) -> Iterator[Grade]:
    """Grade the answers to each case together; the grade is kept with the first of them."""
    for answers in grading.answers.values():
        by_case: dict[str, list[Answer]] = {}
        for answer in answers:
            by_case.setdefault(answer.case.id, []).append(answer)
        for together in by_case.values():
            yield _grade(settings, together, grading)


def _grade(settings: Diversity, answers: Sequence[Answer], grading: Grading) -> Grade:
    texts = [answer.sample.response for answer in answers]
    if len(texts) < 2:
        reason = "needs at least two answers to the prompt; raise sampling.samples"
        return grading.grade(answers[0], None, reason=reason)
    grams = [ngrams(text, settings.n) for text in texts]
    value = distinct(grams) if settings.measure == "distinct" else distance(grams)
    evidence = {"answers": texts}
    if value is None:
        reason = f"no answer has {settings.n} words"
        return grading.grade(answers[0], None, reason=reason, evidence=evidence)
    return grading.grade(answers[0], value, evidence=evidence)


def distinct(grams: Sequence[NGrams]) -> float | None:
    """Return the share of different n-grams among all (arXiv 1510.03055).

    Args:
        grams: The n-grams of each answer.
    """
    together = [gram for of_one in grams for gram in of_one]
    return len(set(together)) / len(together) if together else None


def distance(grams: Sequence[NGrams]) -> float | None:
    """Return one minus the mean overlap (Jaccard) of the n-grams of two answers.

    Args:
        grams: The n-grams of each answer.
    """
    sets = [set(of_one) for of_one in grams]
    pairs = [(a, b) for a, b in combinations(sets, 2) if a or b]
    return mean([1 - len(a & b) / len(a | b) for a, b in pairs]) if pairs else None


def ngrams(text: str, n: int) -> NGrams:
    """Return the n-grams of a text's words, in lower case.

    Args:
        text: The text.
        n: Words in an n-gram.
    """
    all_words = words(text.lower())
    return [tuple(all_words[i : i + n]) for i in range(len(all_words) - n + 1)]
