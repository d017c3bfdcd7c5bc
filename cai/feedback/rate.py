"""``rate``: answers in, a number for each out, straight from the judge (d-RLAIF, arXiv 2309.00267, section 2.3).

A reward without a reward model: dearer per answer, never out of date with the policy it scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from cai import templates
from cai.arguments import check_model, check_choice, check_constitution
from cai.backends.protocol import LoglikelihoodRequest, Model, OptionLogprobs, Request, Response
from cai.constitution.schema import Constitution, Principle, fill_slots
from cai.feedback.judge import is_empty_answer
from cai.feedback.judge_methods import CritiqueOdds, share
from cai.feedback.revise import critique_request
from cai.keys import digest, draw_many
from cai.records import Message, Prompt

Scale = Literal["critique", "digits"]
DIGITS = tuple("123456789")


def rate(
    answers: Sequence[tuple[Prompt, str]],
    constitution: Constitution,
    model: Model,
    *,
    scale: Scale = "critique",
    principles: int = 1,
    seed: int = 0,
) -> list[float | None]:
    """A number between -1 and 1 for each (prompt, answer): the mean over ``principles`` drawn by weight (0: all of them).

    ``critique``: 1 - 2 v, with v the probability that a critique by the principle finds a problem. ``digits``: the expected
    rating from 1 to 9 under the probabilities of the digits, brought to -1 ... 1. An answer that says nothing gets -1 unasked;
    None where nothing could be read.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_constitution(constitution, "judge", principles)
    check_model(model)
    check_choice("scale", scale, get_args(Scale))
    weights = constitution.used_for("judge")
    drawn = [
        []
        if is_empty_answer(text)
        else draw_many(weights, principles or len(weights), seed, "rate", prompt.id, digest(text))
        for prompt, text in answers
    ]
    requests = [
        _call(scale, prompt, text, constitution.principles[name])
        for (prompt, text), names in zip(answers, drawn, strict=True)
        for name in names
    ]
    given = iter(model(requests))
    ratings: list[float | None] = []
    for names in drawn:
        read = [value for _ in names if (value := _read(scale, next(given))) is not None]
        ratings.append(-1.0 if not names else sum(read) / len(read) if read else None)
    return ratings


def _call(scale: Scale, prompt: Prompt, text: str, principle: Principle) -> Request:
    if scale == "critique":
        return LoglikelihoodRequest(
            (*prompt.with_answer(text), critique_request(principle, prompt)), CritiqueOdds.options
        )
    delimiter = digest(["fence", prompt.id, text])[:8]
    asked = fill_slots(principle.critique or principle.compare or "", {"prompt": prompt.text})
    turns = [message.model_dump() for message in prompt.messages]
    return LoglikelihoodRequest(
        (
            Message(
                role="user",
                content=templates.render(
                    "rate", conversation=turns, reply=text, text=asked, delimiter=delimiter
                ),
            ),
        ),
        DIGITS,
    )


def _read(scale: Scale, answer: Response) -> float | None:
    if scale == "critique":
        problem = share(answer, 0)
        return None if problem is None else 1 - 2 * problem
    if not isinstance(answer, OptionLogprobs) or (first := share(answer, 0)) is None:
        return None
    shares = [first, *(s for i in range(1, len(DIGITS)) if (s := share(answer, i)) is not None)]
    expected = sum(digit * s for digit, s in enumerate(shares, start=1))
    return (expected - 5) / 4
