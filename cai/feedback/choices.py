"""The requests and the reading of multiple-choice questions.

A question is asked in several orders of its options, so that a model gains nothing from the place
of an option: rotated, each option is in each place once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Literal

from cai.backends.protocol import LoglikelihoodRequest, Response
from cai.constitution.schema import Principle
from cai.data.choice_layout import LETTERS
from cai.data.choices import ChoiceQuestion
from cai.feedback.judgments import option_probability
from cai.feedback.requests import Turns, comparison_request, option_request
from cai.records import Comparison, Message
from cai.templates import DEFAULT, Templates

Orders = Literal["rotated", "all", "given"]
"""Orders that a question is asked in.

- ``rotated``: as many as there are options, each option in each place once.
- ``all``: every order, for up to four options; rotated for more.
- ``given``: only that of the file.
"""
MAX_PERMUTED = 4
Order = tuple[int, ...]


def orders_of(question: ChoiceQuestion, orders: Orders) -> list[Order]:
    """Return the orders of the options in which a question is asked.

    Args:
        question: The question.
        orders: Which of them; the file's own is the first one.
    """
    numbers = range(len(question.options))
    if orders == "given":
        return [tuple(numbers)]
    if orders == "all" and len(numbers) <= MAX_PERMUTED:
        return list(permutations(numbers))
    return [(*numbers[start:], *numbers[:start]) for start in numbers]


def question_turn(
    question: ChoiceQuestion,
    order: Order,
    principle: Principle | None = None,
    templates: Templates = DEFAULT,
) -> Message:
    """Write a question with its options.

    Args:
        question: The question. One that shows its options itself keeps its own words.
        order: The number of the option that each letter names.
        principle: The principle by which replies are compared; None: the most helpful, honest and
            harmless one is asked for.
        templates: The templates of the model that is asked.
    """
    options = [question.options[number] for number in order]
    if question.layout:
        return Message(role="user", content=question.layout.text(order))
    lettered = list(zip(LETTERS, options, strict=False))
    if not question.is_reply:
        text = templates.render("choice", question=_asked(question), options=lettered)
        return Message(role="user", content=text)
    principle = principle or better_reply(templates)
    if len(options) == 2:  # as a judge is asked
        pair = Comparison.of(question.prompt, options[0], options[1])
        return comparison_request(pair, principle, templates)
    text = templates.render(
        "choice_reply",
        conversation=[message.model_dump() for message in question.prompt.messages],
        text=principle.compare,
        options=lettered,
    )
    return Message(role="user", content=text)


def better_reply(templates: Templates = DEFAULT) -> Principle:
    """Return the principle by which replies are compared unless another one is named.

    Args:
        templates: The templates of the model that is asked.
    """
    text = templates.render("choice_better")
    return Principle(id="choice_better", title=text, compare=text)


def letter_request(
    question: ChoiceQuestion,
    order: Order,
    principle: Principle | None = None,
    templates: Templates = DEFAULT,
    earlier: Turns = (),
) -> LoglikelihoodRequest:
    """Ask for the letter of the right option.

    Args:
        question: The question.
        order: The number of the option that each letter names.
        principle: The principle by which replies are compared.
        templates: The templates of the model that is asked.
        earlier: Turns that are shown before.
    """
    turns = (*earlier, question_turn(question, order, principle, templates))
    if question.is_reply and not question.layout and len(order) == 2:
        return option_request(turns, "judge", templates)
    return LoglikelihoodRequest(turns, tuple(LETTERS[: len(order)]), begun(question, templates))


def begun(question: ChoiceQuestion, templates: Templates = DEFAULT) -> str:
    """Return how the answer to a question begins, up to the letter.

    Args:
        question: The question. One that says it itself keeps its own words.
        templates: The templates of the model that is asked.
    """
    own = question.layout.begun_answer if question.layout else ""
    return f"{own} (" if own else templates.answer_prefix("choice")


def examples(
    few_shot: Sequence[ChoiceQuestion],
    question: ChoiceQuestion,
    principle: Principle | None = None,
    templates: Templates = DEFAULT,
) -> Turns:
    """Return answered questions as turns before a question.

    Args:
        few_shot: The answered questions; the question itself, and others on its prompt, are left
            out. Their options are rotated, so that the right letters take turns.
        question: The question that follows.
        principle: The principle by which replies are compared.
        templates: The templates of the model that is asked.
    """
    turns: list[Message] = []
    others = [example for example in few_shot if example.prompt.id != question.prompt.id]
    for number, example in enumerate(others):
        count = len(example.options)
        start = (example.correct[0] - number) % count
        order = tuple((start + i) % count for i in range(count))
        request = letter_request(example, order, principle, templates)
        letter = request.options[number % count]
        answer = f"{request.answer_prefix}{letter}"
        closing = ")" if request.answer_prefix.endswith("(") else ""
        turns += [*request.messages, Message(role="assistant", content=answer + closing)]
    return tuple(turns)


def option_shares(response: Response, order: Order, min_mass: float) -> list[float] | None:
    """Return the probability of each option, in the order of the file.

    Args:
        response: The response to a request for the letter.
        order: The number of the option that each letter names.
        min_mass: Probability that the letters must have together.

    Returns:
        Probabilities that sum to 1; None if the response cannot be read.
    """
    shares = [0.0] * len(order)
    for place, number in enumerate(order):
        share = option_probability(response, place, min_mass)
        if share is None:
            return None
        shares[number] = share
    return shares


def _asked(question: ChoiceQuestion) -> str:
    """The question's text; of a longer conversation, all turns."""
    messages = question.prompt.messages
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in messages)
