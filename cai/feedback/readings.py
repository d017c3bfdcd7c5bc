"""How a judge is read: from one comparison and one principle to the probability that the first answer is better.

Each method says which calls it makes and how it reads their answers. All methods give a :class:`Reading` with its
evidence, so that labels of different methods can be compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Protocol

from cai import templates
from cai.backends.protocol import Answer, Call, Choice, Choose, Complete, Completion
from cai.constitution.schema import Principle, fill_slots
from cai.feedback.revise import critique_request
from cai.keys import seed_for
from cai.records import Comparison, Message, Reading

CLAMP = (0.4, 0.6)
"""Probabilities read after a chain of thought are near 0 or 1 and are clamped (arXiv 2212.08073, section 4.1)."""
VERDICT = re.compile(r"answer is:?\s*\(?([AB])\b")


class Method(Protocol):
    """A way to read the judge."""

    name: str

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]: ...

    def read(self, principle: Principle, answers: Sequence[Answer]) -> Reading: ...


class Letters:
    """The paper's format: both answers in one prompt, the label from the probabilities of the letters A and B.

    With ``both_orders`` the pair is also shown the other way round and the two are averaged (arXiv 2309.00267).
    """

    name = "letters"

    def __init__(self, both_orders: bool = True) -> None:
        self.both_orders = both_orders

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        orders = [comparison, comparison.swap()] if self.both_orders else [comparison]
        return [Choose((judge_request("judge", order, principle),), ("A", "B")) for order in orders]

    def read(self, principle: Principle, answers: Sequence[Answer]) -> Reading:
        shares = [share(answer, 0) for answer in answers]
        if any(s is None for s in shares):
            return unscored(self.name, principle)
        evidence = {f"p_A_order_{i + 1}": float(s) for i, s in enumerate(shares) if s is not None}
        towards_first = [s if i == 0 else 1 - s for i, s in enumerate(evidence.values())]
        return scored(self.name, principle, sum(towards_first) / len(towards_first), evidence)


class CritiqueOdds:
    """Each answer is criticised by itself; better is the one in which a critique is less likely to find a problem.

    With ``v`` the probability that the critique of an answer begins with "Problem", the first answer wins when only the
    second is faulted and a draw is split: ``p = (1 + v_second - v_first) / 2``. No comparing is asked of the model, so the
    order cannot matter, and a principle that neither answer touches gives one half.
    """

    name = "critique"
    options = ("Problem", "No problem")

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        request = critique_request(principle, comparison.prompt)
        return [Choose((*comparison.prompt.with_answer(text), request), self.options) for text in (comparison.first, comparison.second)]

    def read(self, principle: Principle, answers: Sequence[Answer]) -> Reading:
        first, second = (share(answer, 0) for answer in answers)
        if first is None or second is None:
            return unscored(self.name, principle)
        evidence = {"problem_in_first": first, "problem_in_second": second}
        return scored(self.name, principle, (1 + second - first) / 2, evidence)


class Reasoned:
    """A chain of thought, then a verdict that is read from the text; both orders, clamped to 40-60 %."""

    name = "reasoned"

    def __init__(self, seed: int = 0, temperature: float = 1.0, max_tokens: int = 256) -> None:
        self.seed, self.temperature, self.max_tokens = seed, temperature, max_tokens

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        return [
            Complete(
                (judge_request("judge_reasoned", order, principle),),
                seed_for(self.seed, "reasoned", order.id, principle.id), self.temperature, self.max_tokens,
            )
            for order in (comparison, comparison.swap())
        ]  # fmt: skip

    def read(self, principle: Principle, answers: Sequence[Answer]) -> Reading:
        texts = [answer.text for answer in answers if isinstance(answer, Completion) and answer.finish == "stop"]
        verdicts = [VERDICT.findall(text[-2000:])[-1:] for text in texts]
        if len(verdicts) != 2 or not all(verdicts):
            return unscored(self.name, principle, "\n\n".join(texts))
        wins = (verdicts[0] == ["A"]) + (verdicts[1] == ["B"])
        low, high = CLAMP
        reading = scored(self.name, principle, min(max(wins / 2, low), high), {"wins_of_first": float(wins)})
        return reading.model_copy(update={"text": "\n\n".join(texts)})


def judge_request(template: str, comparison: Comparison, principle: Principle) -> Message:
    """The user turn that shows two answers and asks the principle's question."""
    text = fill_slots(principle.compare or "", {"prompt": comparison.prompt.text})
    turns = [message.model_dump() for message in comparison.prompt.messages]
    values = {"conversation": turns, "first": comparison.first, "second": comparison.second, "text": text}
    return Message(role="user", content=templates.render(template, **values))


def share(answer: Answer, option: int) -> float | None:
    """The probability of one option among those offered, or None where the log-probabilities say nothing."""
    if not isinstance(answer, Choice) or answer.finish != "stop" or any(map(math.isnan, answer.logprobs)):
        return None
    top = max(answer.logprobs)
    if math.isinf(top):
        return None
    weights = [math.exp(value - top) for value in answer.logprobs]
    return weights[option] / sum(weights)


def scored(method: str, principle: Principle, p_first: float, evidence: dict[str, float]) -> Reading:
    return Reading(principle=principle.id, principle_hash=principle.hash, method=method, p_first=p_first, evidence=evidence)


def unscored(method: str, principle: Principle, text: str = "") -> Reading:
    return Reading(principle=principle.id, principle_hash=principle.hash, method=method, p_first=None, status="unscored", text=text)
