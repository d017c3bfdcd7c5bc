"""``rate``: answers in, a number for each out, straight from the judge (d-RLAIF, arXiv 2309.00267, section 2.3).

A reward without a reward model: dearer per answer, never out of date with the policy it scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from cai import templates
from cai.arguments import check_ask, check_choice, check_law
from cai.backends.protocol import Answer, Ask, Call, Choice, Choose
from cai.constitution.schema import Constitution, Principle, fill_slots
from cai.feedback.judge import says_nothing
from cai.feedback.readings import CritiqueOdds, share
from cai.feedback.revise import critique_request
from cai.keys import digest, draw_many
from cai.records import Message, Prompt

Scale = Literal["critique", "digits"]
DIGITS = tuple("123456789")


def rate(
    answers: Sequence[tuple[Prompt, str]], law: Constitution, ask: Ask, *, scale: Scale = "critique", principles: int = 1, seed: int = 0
) -> list[float | None]:
    """A number between -1 and 1 for each (prompt, answer): the mean over ``principles`` drawn by weight (0: all of them).

    ``critique``: 1 - 2 v, with v the probability that a critique by the principle finds a problem. ``digits``: the expected
    rating from 1 to 9 under the probabilities of the digits, brought to -1 ... 1. An answer that says nothing gets -1 unasked;
    None where nothing could be read.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    check_law(law, "judge", principles)
    check_ask(ask)
    check_choice("scale", scale, get_args(Scale))
    weights = law.used_for("judge")
    drawn = [
        [] if says_nothing(text) else draw_many(weights, principles or len(weights), seed, "rate", prompt.id, digest(text))
        for prompt, text in answers
    ]
    calls = [
        _call(scale, prompt, text, law.principles[name]) for (prompt, text), names in zip(answers, drawn, strict=True) for name in names
    ]
    given = iter(ask(calls))
    ratings: list[float | None] = []
    for names in drawn:
        read = [value for _ in names if (value := _read(scale, next(given))) is not None]
        ratings.append(-1.0 if not names else sum(read) / len(read) if read else None)
    return ratings


def _call(scale: Scale, prompt: Prompt, text: str, principle: Principle) -> Call:
    if scale == "critique":
        return Choose((*prompt.with_answer(text), critique_request(principle, prompt)), CritiqueOdds.options)
    fence = digest(["fence", prompt.id, text])[:8]
    asked = fill_slots(principle.critique or principle.compare or "", {"prompt": prompt.text})
    turns = [message.model_dump() for message in prompt.messages]
    return Choose(
        (Message(role="user", content=templates.render("rate", conversation=turns, reply=text, text=asked, fence=fence)),), DIGITS
    )


def _read(scale: Scale, answer: Answer) -> float | None:
    if scale == "critique":
        problem = share(answer, 0)
        return None if problem is None else 1 - 2 * problem
    if not isinstance(answer, Choice) or (first := share(answer, 0)) is None:
        return None
    shares = [first, *(s for i in range(1, len(DIGITS)) if (s := share(answer, i)) is not None)]
    expected = sum(digit * s for digit, s in enumerate(shares, start=1))
    return (expected - 5) / 4
