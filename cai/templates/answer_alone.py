"""A question for models that cannot continue an answer which was begun for them."""

from __future__ import annotations

from collections.abc import Sequence

from cai.templates.prompts import DEFAULT


def answer_alone(question: str, options: Sequence[str]) -> str:
    """Add to a question that the answer is to be one of its options and nothing else.

    Args:
        question: The question.
        options: The options; spaces around them do not count.
    """
    names = [option.strip() for option in options]
    return DEFAULT.render("answer_alone", question=question, options=names)
