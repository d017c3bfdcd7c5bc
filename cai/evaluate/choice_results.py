"""What a model chooses in multiple-choice questions: records, and how they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai.backends.protocol import LoglikelihoodRequest, Response
from cai.data.choices import ChoiceQuestion
from cai.feedback.choices import Order, option_shares
from cai.feedback.judgments import (
    Reading,
    failure_summary,
    fallback_summary,
    option_mass,
    status_without_verdict,
)
from cai.records import Prompt, Record, Status, Text

ScoreReplies = Callable[[Sequence[tuple[Prompt, str]]], Sequence[float | None]]
"""Scores replies, such as a reward model; None where it has no score."""


@dataclass(frozen=True)
class Scorer:
    """Something that scores replies, in place of a model that is asked.

    Attributes:
        score: Scores replies.
        fingerprint: Identifies it.
    """

    score: ScoreReplies
    fingerprint: str


class ChoiceResult(Record):
    """What a model chooses, or why that is not known.

    Attributes:
        question: Id of the question.
        method: Name of the method.
        probabilities: Probability of each option, in the order of the file; None if there is none.
        scores: What they were computed from, for methods that score each option alone.
        orders: The orders in which the options were shown: the number of the option in each place.
        by_order: For each order the probability of each place; empty if no letters were asked for.
        option_mass: For each order the probability that the answer begins with any of the letters.
        texts: What the model wrote before it chose, for each order.
        status: ``ok`` exactly if there are probabilities.
        reason: Why there are none.
        fallback: What they were read from instead of what was asked for.
    """

    question: str
    method: str
    probabilities: tuple[float, ...] | None = None
    scores: tuple[float, ...] = ()
    orders: tuple[tuple[int, ...], ...] = ()
    by_order: tuple[tuple[float, ...], ...] = ()
    option_mass: tuple[float, ...] = ()
    texts: tuple[Text, ...] = ()
    status: Status = "ok"
    reason: Text = ""
    fallback: Text = ""


def of_scores(name: str, question: ChoiceQuestion, scores: Sequence[float | None]) -> ChoiceResult:
    """Make a result of scores, higher being better.

    Args:
        name: Name of the method.
        question: The question.
        scores: The score of each option, in the order of the file.
    """
    known = [score for score in scores if score is not None and math.isfinite(score)]
    if len(known) < len(scores):
        missing = len(scores) - len(known)
        return unread(name, question, "unscored", f"{missing} of {len(scores)} have no score")
    weights = [math.exp(score - max(known)) for score in known]
    shares = tuple(weight / sum(weights) for weight in weights)
    return ChoiceResult(
        question=question.id, method=name, probabilities=shares, scores=tuple(known)
    )


def of_letters(
    name: str,
    question: ChoiceQuestion,
    orders: Sequence[Order],
    requests: Sequence[LoglikelihoodRequest],
    responses: Sequence[Response],
    min_mass: float,
) -> ChoiceResult:
    """Make a result of letters: the mean over the orders; none unless all can be read.

    Args:
        name: Name of the method.
        question: The question.
        orders: The orders that it was asked in.
        requests: What was asked, for each order.
        responses: The response to each.
        min_mass: Probability that the letters must have together.
    """
    by_option = [
        option_shares(response, order, min_mass)
        for response, order in zip(responses, orders, strict=True)
    ]
    shares = [own for own in by_option if own is not None]
    is_read = len(shares) == len(orders)
    mean: tuple[float, ...] | None = None
    by_order: tuple[tuple[float, ...], ...] = ()
    if is_read:
        mean = tuple(sum(column) / len(shares) for column in zip(*shares, strict=True))
        by_order = tuple(
            tuple(own[number] for number in order)
            for own, order in zip(shares, orders, strict=True)
        )
    return ChoiceResult(
        question=question.id,
        method=name,
        probabilities=mean,
        orders=tuple(orders),
        by_order=by_order,
        option_mass=tuple(mass for r in responses if (mass := option_mass(r)) is not None),
        status="ok" if is_read else status_without_verdict(responses),
        reason="" if is_read else failure_summary(requests, responses, Reading(min_mass)),
        fallback=fallback_summary(responses),
    )


def unread(name: str, question: ChoiceQuestion, status: Status, reason: str) -> ChoiceResult:
    """Make the result of a question without probabilities.

    Args:
        name: Name of the method.
        question: The question.
        status: Why there are none.
        reason: The same in words.
    """
    return ChoiceResult(question=question.id, method=name, status=status, reason=reason)
