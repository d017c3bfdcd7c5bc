"""How a judge is read: from one comparison and one principle to the probability that the first answer is better.

Each method says which calls it makes and how it reads their answers. All methods give a :class:`Judgment` with its
evidence, so that labels of different methods can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from cai import templates
from cai.arguments import check_choice, check_count, check_sampling
from cai.backends.protocol import (
    Completion,
    GenerateRequest,
    LoglikelihoodRequest,
    Model,
    OptionLogprobs,
    Request,
    Response,
)
from cai.constitution.schema import Principle, fill_slots
from cai.errors import ArgumentError
from cai.feedback.few_shot import FewShotComparison, tokenize_prompts
from cai.feedback.revise import critique_request
from cai.feedback.verdicts import verdict
from cai.keys import digest, seed_for
from cai.records import Comparison, Judgment, Message

CLAMP = (0.4, 0.6)
"""Probabilities read after a chain of thought are near 0 or 1 and are clamped (arXiv 2212.08073, section 4.1)."""

REASONS = 3
"""Different troubles that a reading names."""


class JudgeMethod(Protocol):
    """A way to read the judge."""

    name: str

    def requests(self, comparison: Comparison, principle: Principle) -> list[Request]: ...

    def read(
        self, principle: Principle, requests: Sequence[Request], answers: Sequence[Response]
    ) -> Judgment: ...


class PairwiseLogprobs:
    """The paper's format: both answers in one prompt, the label from the probabilities of the letters A and B.

    With ``swap_positions`` the pair is also shown the other way round and the two are averaged (arXiv 2309.00267). With
    ``delimiters`` the answers stand between marks that they cannot know, and the judge is told that they are material. ``few_shot``
    are worked verdicts that stand before the question.
    """

    name = "option_logprobs"

    def __init__(
        self,
        swap_positions: bool = True,
        delimiters: bool = False,
        few_shot: Sequence[FewShotComparison] = (),
    ) -> None:
        self.swap_positions, self.delimiters, self.few_shot = swap_positions, delimiters, few_shot
        self.template = "judge_delimited" if delimiters else "judge"

    def requests(self, comparison: Comparison, principle: Principle) -> list[Request]:
        orders = [comparison, comparison.swap()] if self.swap_positions else [comparison]
        before = few_shot_turns(self.few_shot, comparison, self.delimiters)
        return [
            LoglikelihoodRequest(
                (*before, comparison_request(order, principle, self.delimiters)), ("A", "B")
            )
            for order in orders
        ]

    def read(
        self, principle: Principle, requests: Sequence[Request], answers: Sequence[Response]
    ) -> Judgment:
        shares = [share(answer, 0) for answer in answers]
        if any(s is None for s in shares):
            return judgment(self, principle, requests, answers, None)
        evidence = {f"p_A_order_{i + 1}": float(s) for i, s in enumerate(shares) if s is not None}
        towards_first = [s if i == 0 else 1 - s for i, s in enumerate(evidence.values())]
        return judgment(
            self, principle, requests, answers, sum(towards_first) / len(towards_first), evidence
        )


class CritiqueOdds:
    """Each answer is criticised by itself; better is the one in which a critique is less likely to find a problem.

    With ``v`` the probability that the critique of an answer begins with "Problem", the first answer wins when only the
    second is faulted and a draw is split: ``p = (1 + v_second - v_first) / 2``. No comparing is asked of the model, so the
    order cannot matter, and a principle that neither answer touches gives one half.
    """

    name = "critique"
    template = "critique"
    options = ("Problem", "No problem")

    def requests(self, comparison: Comparison, principle: Principle) -> list[Request]:
        request = critique_request(principle, comparison.prompt)
        return [
            LoglikelihoodRequest((*comparison.prompt.with_answer(text), request), self.options)
            for text in (comparison.first, comparison.second)
        ]

    def read(
        self, principle: Principle, requests: Sequence[Request], answers: Sequence[Response]
    ) -> Judgment:
        first, second = (share(answer, 0) for answer in answers)
        if first is None or second is None:
            return judgment(self, principle, requests, answers, None)
        evidence = {"problem_in_first": first, "problem_in_second": second}
        return judgment(self, principle, requests, answers, (1 + second - first) / 2, evidence)


class SampledVotes:
    """The judge says A or B, ``samples`` times in each order; the label is the share of its verdicts.

    For models that give no log-probabilities. A text without a verdict is no vote; no vote in an order, no label.
    """

    name = "sampled_votes"
    chain_of_thought = False
    clamp = (0.0, 1.0)

    def __init__(
        self,
        seed: int = 0,
        samples: int = 4,
        delimiters: bool = False,
        temperature: float = 1.0,
        max_tokens: int = 16,
        few_shot: Sequence[FewShotComparison] = (),
    ) -> None:
        check_count("samples", samples)
        check_sampling(temperature, max_tokens)
        self.seed, self.samples, self.delimiters, self.few_shot = (
            seed,
            samples,
            delimiters,
            few_shot,
        )
        self.temperature, self.max_tokens = temperature, max_tokens
        self.template = (
            "judge_delimited"
            if delimiters
            else "judge_chain_of_thought"
            if self.chain_of_thought
            else "judge"
        )

    def requests(self, comparison: Comparison, principle: Principle) -> list[Request]:
        before = few_shot_turns(self.few_shot, comparison, self.delimiters)
        return [
            GenerateRequest(
                (
                    *before,
                    comparison_request(order, principle, self.delimiters, self.chain_of_thought),
                ),
                seed_for(self.seed, self.name, order.id, principle.id, draw),
                self.temperature,
                self.max_tokens,
            )
            for order in (comparison, comparison.swap())
            for draw in range(self.samples)
        ]

    def read(
        self, principle: Principle, requests: Sequence[Request], answers: Sequence[Response]
    ) -> Judgment:
        said = [
            verdict(a.text) if isinstance(a, Completion) and a.finish_reason == "stop" else None
            for a in answers
        ]
        text = "\n\n".join(a.text for a in answers if isinstance(a, Completion))
        orders = [
            [letter for letter in said[at : at + self.samples] if letter]
            for at in (0, self.samples)
        ]
        evidence = {
            "sampled_votes": float(sum(map(len, orders))),
            "without_verdict": float(said.count(None)),
        }
        if not all(orders):
            return judgment(self, principle, requests, answers, None, evidence, text)
        shares = [
            letters.count(mine) / len(letters) for letters, mine in zip(orders, "AB", strict=True)
        ]
        low, high = self.clamp
        evidence |= {"share_order_1": shares[0], "share_order_2": shares[1]}
        return judgment(
            self, principle, requests, answers, min(max(sum(shares) / 2, low), high), evidence, text
        )


class ChainOfThought(SampledVotes):
    """A chain of thought before each verdict; both orders, ``samples`` each, clamped to 40-60 %."""

    name = "chain_of_thought"
    chain_of_thought = True
    clamp = CLAMP

    def __init__(
        self,
        seed: int = 0,
        samples: int = 1,
        delimiters: bool = False,
        temperature: float = 1.0,
        max_tokens: int = 256,
    ) -> None:
        super().__init__(seed, samples, delimiters, temperature, max_tokens)


def score_all(
    method: JudgeMethod, questions: Sequence[tuple[Comparison, Principle]], model: Model
) -> list[Judgment]:
    """Put all questions to a judge at once and read each."""
    requests = [method.requests(comparison, principle) for comparison, principle in questions]
    answers = iter(model([request for group in requests for request in group]))
    return [
        method.read(principle, group, [next(answers) for _ in group])
        for (_, principle), group in zip(questions, requests, strict=True)
    ]


JUDGE_METHODS = ("option_logprobs", "critique", "sampled_votes", "chain_of_thought")


def judge_method(
    name: str,
    *,
    seed: int = 0,
    swap_positions: bool = True,
    delimiters: bool = True,
    samples: int = 0,
    few_shot: Sequence[FewShotComparison] = (),
) -> JudgeMethod:
    """The method of one of :data:`JUDGE_METHODS`; ``samples`` 0 is the method's own number. ``few_shot`` go before letters and votes.

    Raises:
        ArgumentError: if there is no such method, or ``samples`` is below 0.
    """
    check_choice("method", name, JUDGE_METHODS)
    check_count("samples", samples, 0)
    if name == "critique":
        return CritiqueOdds()
    if name == "option_logprobs":
        return PairwiseLogprobs(swap_positions, delimiters, few_shot)
    number = {"samples": samples} if samples else {}
    return (
        ChainOfThought(seed, delimiters=delimiters, **number)
        if name == "chain_of_thought"
        else SampledVotes(seed, delimiters=delimiters, few_shot=few_shot, **number)
    )


def as_method(method: JudgeMethod | str, seed: int = 0) -> JudgeMethod:
    """A method as it is, or the one of that name.

    Raises:
        ArgumentError: if it is neither.
    """
    if isinstance(method, str):
        return judge_method(method, seed=seed)
    if isinstance(method, type) or not all(
        callable(getattr(method, part, None)) for part in ("requests", "read")
    ):
        shown = (
            f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
        )
        raise ArgumentError(
            "method",
            f"must be one of {', '.join(JUDGE_METHODS)} or an object such as PairwiseLogprobs(), not {shown}",
        )
    return method


def few_shot_turns(
    few_shot: Sequence[FewShotComparison], comparison: Comparison, delimiters: bool = False
) -> list[Message]:
    """The turns of the worked verdicts that may stand before a comparison."""
    return [
        turn
        for shot in tokenize_prompts(few_shot, comparison)
        for turn in (
            comparison_request(shot.comparison, shot.principle, delimiters),
            Message(role="assistant", content=shot.letter),
        )
    ]


def comparison_request(
    comparison: Comparison,
    principle: Principle,
    delimiters: bool = False,
    chain_of_thought: bool = False,
) -> Message:
    """The user turn that shows two answers and asks the principle's question."""
    # the paper's own questions end with a piece of its frame, which ours has no place for
    asked = (principle.compare or "").removesuffix("Options:").rstrip()
    text = fill_slots(asked, {"prompt": comparison.prompt.text})
    turns = [message.model_dump() for message in comparison.prompt.messages]
    values = {
        "conversation": turns,
        "first": comparison.first,
        "second": comparison.second,
        "text": text,
    }
    if delimiters:
        # depends on both answers, so whoever writes one cannot write its mark; not on the principle, so that prompts by different
        # principles begin alike and are read from one beginning
        delimiter = digest(["fence", comparison.id])[:8]
        return Message(
            role="user",
            content=templates.render(
                "judge_delimited", **values, delimiter=delimiter, chain_of_thought=chain_of_thought
            ),
        )
    return Message(
        role="user",
        content=templates.render(
            "judge_chain_of_thought" if chain_of_thought else "judge", **values
        ),
    )


def share(answer: Response, option: int) -> float | None:
    """The probability of one option among those offered, or None where the log-probabilities say nothing."""
    if (
        not isinstance(answer, OptionLogprobs)
        or answer.finish_reason != "stop"
        or any(map(math.isnan, answer.logprobs))
    ):
        return None
    top = max(answer.logprobs)
    if math.isinf(top):
        return None
    weights = [math.exp(value - top) for value in answer.logprobs]
    return weights[option] / sum(weights)


def trouble(requests: Sequence[Request], answers: Sequence[Response]) -> str:
    """What went wrong with a judge's answers, the commonest things first, with how often; empty where nothing did."""
    counts = Counter(
        said
        for request, answer in zip(requests, answers, strict=True)
        if (said := _trouble(request, answer))
    )
    return "; ".join(
        f"{count} of {len(answers)} answers {said}" for said, count in counts.most_common(REASONS)
    )


def _trouble(request: Request, answer: Response) -> str:
    if answer.finish_reason == "length" and isinstance(request, GenerateRequest):
        return f"truncated (cut at max_tokens={request.max_tokens})"
    if answer.finish_reason != "stop":
        return (
            f"{answer.finish_reason.replace('_', ' ')} ({answer.reason})"
            if answer.reason
            else answer.finish_reason.replace("_", " ")
        )
    if isinstance(answer, OptionLogprobs) and share(answer, 0) is None:
        return "without a probability for any of the options"
    return (
        "without a verdict"
        if isinstance(answer, Completion) and verdict(answer.text) is None
        else ""
    )


def judgment(
    method: SampledVotes | PairwiseLogprobs | CritiqueOdds,
    principle: Principle,
    requests: Sequence[Request],
    answers: Sequence[Response],
    p_first: float | None,
    evidence: dict[str, float] | None = None,
    text: str = "",
) -> Judgment:
    """What a method read, with everything that is needed to look at it again; without a probability it is unscored."""
    sampled = [request for request in requests if isinstance(request, GenerateRequest)]
    return Judgment(
        principle=principle.id,
        principle_hash=principle.hash,
        method=method.name,
        p_first=p_first,
        status="unscored" if p_first is None else "ok",
        reason=trouble(requests, answers),
        evidence=evidence or {},
        text=text,
        template=templates.template_hash(method.template),
        seeds=tuple(request.seed for request in sampled),
        temperature=sampled[0].temperature if sampled else None,
        tokens=(
            sum(a.tokens_in for a in answers),
            sum(a.tokens_out for a in answers if isinstance(a, Completion)),
        ),
    )
