"""How a judge is read: from one comparison and one principle to the probability that the first answer is better.

Each method says which calls it makes and how it reads their answers. All methods give a :class:`Reading` with its
evidence, so that labels of different methods can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from cai import templates
from cai.arguments import check_choice, check_count, check_sampling
from cai.backends.protocol import Answer, Ask, Call, Choice, Choose, Complete, Completion
from cai.constitution.schema import Principle, fill_slots
from cai.errors import ArgumentError
from cai.feedback.revise import critique_request
from cai.feedback.shots import Verdict, fitting
from cai.feedback.verdicts import verdict
from cai.keys import digest, seed_for
from cai.records import Comparison, Message, Reading

CLAMP = (0.4, 0.6)
"""Probabilities read after a chain of thought are near 0 or 1 and are clamped (arXiv 2212.08073, section 4.1)."""

REASONS = 3
"""Different troubles that a reading names."""


class Method(Protocol):
    """A way to read the judge."""

    name: str

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]: ...

    def read(self, principle: Principle, calls: Sequence[Call], answers: Sequence[Answer]) -> Reading: ...


class Letters:
    """The paper's format: both answers in one prompt, the label from the probabilities of the letters A and B.

    With ``both_orders`` the pair is also shown the other way round and the two are averaged (arXiv 2309.00267). With
    ``fences`` the answers stand between marks that they cannot know, and the judge is told that they are material. ``shots``
    are worked verdicts that stand before the question.
    """

    name = "letters"

    def __init__(self, both_orders: bool = True, fences: bool = False, shots: Sequence[Verdict] = ()) -> None:
        self.both_orders, self.fences, self.shots = both_orders, fences, shots
        self.template = "judge_fenced" if fences else "judge"

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        orders = [comparison, comparison.swap()] if self.both_orders else [comparison]
        before = worked(self.shots, comparison, self.fences)
        return [Choose((*before, judge_request(order, principle, self.fences)), ("A", "B")) for order in orders]

    def read(self, principle: Principle, calls: Sequence[Call], answers: Sequence[Answer]) -> Reading:
        shares = [share(answer, 0) for answer in answers]
        if any(s is None for s in shares):
            return reading(self, principle, calls, answers, None)
        evidence = {f"p_A_order_{i + 1}": float(s) for i, s in enumerate(shares) if s is not None}
        towards_first = [s if i == 0 else 1 - s for i, s in enumerate(evidence.values())]
        return reading(self, principle, calls, answers, sum(towards_first) / len(towards_first), evidence)


class CritiqueOdds:
    """Each answer is criticised by itself; better is the one in which a critique is less likely to find a problem.

    With ``v`` the probability that the critique of an answer begins with "Problem", the first answer wins when only the
    second is faulted and a draw is split: ``p = (1 + v_second - v_first) / 2``. No comparing is asked of the model, so the
    order cannot matter, and a principle that neither answer touches gives one half.
    """

    name = "critique"
    template = "critique"
    options = ("Problem", "No problem")

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        request = critique_request(principle, comparison.prompt)
        return [Choose((*comparison.prompt.with_answer(text), request), self.options) for text in (comparison.first, comparison.second)]

    def read(self, principle: Principle, calls: Sequence[Call], answers: Sequence[Answer]) -> Reading:
        first, second = (share(answer, 0) for answer in answers)
        if first is None or second is None:
            return reading(self, principle, calls, answers, None)
        evidence = {"problem_in_first": first, "problem_in_second": second}
        return reading(self, principle, calls, answers, (1 + second - first) / 2, evidence)


class Votes:
    """The judge says A or B, ``samples`` times in each order; the label is the share of its verdicts.

    For models that give no log-probabilities. A text without a verdict is no vote; no vote in an order, no label.
    """

    name = "votes"
    reasoned = False
    clamp = (0.0, 1.0)

    def __init__(
        self, seed: int = 0, samples: int = 4, fences: bool = False, temperature: float = 1.0, max_tokens: int = 16,
        shots: Sequence[Verdict] = (),
    ) -> None:  # fmt: skip
        check_count("samples", samples)
        check_sampling(temperature, max_tokens)
        self.seed, self.samples, self.fences, self.shots = seed, samples, fences, shots
        self.temperature, self.max_tokens = temperature, max_tokens
        self.template = "judge_fenced" if fences else "judge_reasoned" if self.reasoned else "judge"

    def calls(self, comparison: Comparison, principle: Principle) -> list[Call]:
        before = worked(self.shots, comparison, self.fences)
        return [
            Complete(
                (*before, judge_request(order, principle, self.fences, self.reasoned)),
                seed_for(self.seed, self.name, order.id, principle.id, draw), self.temperature, self.max_tokens,
            )
            for order in (comparison, comparison.swap())
            for draw in range(self.samples)
        ]  # fmt: skip

    def read(self, principle: Principle, calls: Sequence[Call], answers: Sequence[Answer]) -> Reading:
        said = [verdict(a.text) if isinstance(a, Completion) and a.finish == "stop" else None for a in answers]
        text = "\n\n".join(a.text for a in answers if isinstance(a, Completion))
        orders = [[letter for letter in said[at : at + self.samples] if letter] for at in (0, self.samples)]
        evidence = {"votes": float(sum(map(len, orders))), "without_verdict": float(said.count(None))}
        if not all(orders):
            return reading(self, principle, calls, answers, None, evidence, text)
        shares = [letters.count(mine) / len(letters) for letters, mine in zip(orders, "AB", strict=True)]
        low, high = self.clamp
        evidence |= {"share_order_1": shares[0], "share_order_2": shares[1]}
        return reading(self, principle, calls, answers, min(max(sum(shares) / 2, low), high), evidence, text)


class Reasoned(Votes):
    """A chain of thought before each verdict; both orders, ``samples`` each, clamped to 40-60 %."""

    name = "reasoned"
    reasoned = True
    clamp = CLAMP

    def __init__(self, seed: int = 0, samples: int = 1, fences: bool = False, temperature: float = 1.0, max_tokens: int = 256) -> None:
        super().__init__(seed, samples, fences, temperature, max_tokens)


def read_all(method: Method, questions: Sequence[tuple[Comparison, Principle]], ask: Ask) -> list[Reading]:
    """Put all questions to a judge at once and read each."""
    calls = [method.calls(comparison, principle) for comparison, principle in questions]
    answers = iter(ask([call for group in calls for call in group]))
    return [method.read(principle, group, [next(answers) for _ in group]) for (_, principle), group in zip(questions, calls, strict=True)]


METHODS = ("letters", "critique", "votes", "reasoned")


def method_named(
    name: str, *, seed: int = 0, both_orders: bool = True, fences: bool = True, samples: int = 0, shots: Sequence[Verdict] = ()
) -> Method:
    """The method of one of :data:`METHODS`; ``samples`` 0 is the method's own number. ``shots`` go before letters and votes.

    Raises:
        ArgumentError: if there is no such method, or ``samples`` is below 0.
    """
    check_choice("method", name, METHODS)
    check_count("samples", samples, 0)
    if name == "critique":
        return CritiqueOdds()
    if name == "letters":
        return Letters(both_orders, fences, shots)
    number = {"samples": samples} if samples else {}
    return Reasoned(seed, fences=fences, **number) if name == "reasoned" else Votes(seed, fences=fences, shots=shots, **number)


def as_method(method: Method | str, seed: int = 0) -> Method:
    """A method as it is, or the one of that name.

    Raises:
        ArgumentError: if it is neither.
    """
    if isinstance(method, str):
        return method_named(method, seed=seed)
    if isinstance(method, type) or not all(callable(getattr(method, part, None)) for part in ("calls", "read")):
        shown = f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
        raise ArgumentError("method", f"must be one of {', '.join(METHODS)} or an object such as Letters(), not {shown}")
    return method


def worked(shots: Sequence[Verdict], comparison: Comparison, fences: bool = False) -> list[Message]:
    """The turns of the worked verdicts that may stand before a comparison."""
    return [
        turn
        for shot in fitting(shots, comparison)
        for turn in (judge_request(shot.comparison, shot.principle, fences), Message(role="assistant", content=shot.letter))
    ]


def judge_request(comparison: Comparison, principle: Principle, fences: bool = False, reasoned: bool = False) -> Message:
    """The user turn that shows two answers and asks the principle's question."""
    # the paper's own questions end with a piece of its frame, which ours has no place for
    asked = (principle.compare or "").removesuffix("Options:").rstrip()
    text = fill_slots(asked, {"prompt": comparison.prompt.text})
    turns = [message.model_dump() for message in comparison.prompt.messages]
    values = {"conversation": turns, "first": comparison.first, "second": comparison.second, "text": text}
    if fences:
        # depends on both answers, so whoever writes one cannot write its mark; not on the principle, so that prompts by different
        # principles begin alike and are read from one beginning
        fence = digest(["fence", comparison.id])[:8]
        return Message(role="user", content=templates.render("judge_fenced", **values, fence=fence, reasoned=reasoned))
    return Message(role="user", content=templates.render("judge_reasoned" if reasoned else "judge", **values))


def share(answer: Answer, option: int) -> float | None:
    """The probability of one option among those offered, or None where the log-probabilities say nothing."""
    if not isinstance(answer, Choice) or answer.finish != "stop" or any(map(math.isnan, answer.logprobs)):
        return None
    top = max(answer.logprobs)
    if math.isinf(top):
        return None
    weights = [math.exp(value - top) for value in answer.logprobs]
    return weights[option] / sum(weights)


def trouble(calls: Sequence[Call], answers: Sequence[Answer]) -> str:
    """What went wrong with a judge's answers, the commonest things first, with how often; empty where nothing did."""
    counts = Counter(said for call, answer in zip(calls, answers, strict=True) if (said := _trouble(call, answer)))
    return "; ".join(f"{count} of {len(answers)} answers {said}" for said, count in counts.most_common(REASONS))


def _trouble(call: Call, answer: Answer) -> str:
    if answer.finish == "length" and isinstance(call, Complete):
        return f"truncated (cut at max_tokens={call.max_tokens})"
    if answer.finish != "stop":
        return f"{answer.finish.replace('_', ' ')} ({answer.note})" if answer.note else answer.finish.replace("_", " ")
    if isinstance(answer, Choice) and share(answer, 0) is None:
        return "without a probability for any of the options"
    return "without a verdict" if isinstance(answer, Completion) and verdict(answer.text) is None else ""


def reading(
    method: Votes | Letters | CritiqueOdds, principle: Principle, calls: Sequence[Call], answers: Sequence[Answer],
    p_first: float | None, evidence: dict[str, float] | None = None, text: str = "",
) -> Reading:  # fmt: skip
    """What a method read, with everything that is needed to look at it again; without a probability it is unscored."""
    sampled = [call for call in calls if isinstance(call, Complete)]
    return Reading(
        principle=principle.id, principle_hash=principle.hash, method=method.name, p_first=p_first,
        status="unscored" if p_first is None else "ok", reason=trouble(calls, answers), evidence=evidence or {}, text=text,
        template=templates.template_hash(method.template), seeds=tuple(call.seed for call in sampled),
        temperature=sampled[0].temperature if sampled else None,
        tokens=(sum(a.tokens_in for a in answers), sum(a.tokens_out for a in answers if isinstance(a, Completion))),
    )  # fmt: skip
