"""What a backend is: something that completes conversations and weighs options, many at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from cai.cleaning import clean
from cai.records import Message

FinishReason = Literal["stop", "length", "too_long", "filtered", "failed"]
"""How an answer ended: by itself, at its length limit, never begun, held back by the server, or not to be had at all."""


@dataclass(frozen=True)
class GenerateRequest:
    """A call that asks for the next answer of a conversation."""

    messages: tuple[Message, ...]
    seed: int
    temperature: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True)
class LoglikelihoodRequest:
    """A call that asks with what probability the next answer begins with each of the options."""

    messages: tuple[Message, ...]
    options: tuple[str, ...]


Request = GenerateRequest | LoglikelihoodRequest


@dataclass(frozen=True)
class Completion:
    """The answer to a :class:`GenerateRequest` call."""

    text: str
    finish_reason: FinishReason
    tokens_in: int
    tokens_out: int
    reason: str = ""  # why it failed
    reasoning: str = (
        ""  # what a model that thinks aloud wrote before its answer; no part of the answer
    )


@dataclass(frozen=True)
class OptionLogprobs:
    """The answer to a :class:`LoglikelihoodRequest` call: natural logarithms of the options' probabilities, not normalised."""

    logprobs: tuple[float, ...]
    tokens_in: int
    finish_reason: FinishReason = "stop"
    votes: int = (
        0  # samples the probabilities are shares of, where a server gives no log-probabilities
    )
    reason: str = ""


Response = Completion | OptionLogprobs


def failed(request: Request, reason: str, finish_reason: FinishReason = "failed") -> Response:
    """The answer of a call that has none, with the reason."""
    if isinstance(request, LoglikelihoodRequest):
        return OptionLogprobs((math.nan,) * len(request.options), 0, finish_reason, reason=reason)
    return Completion("", finish_reason, 0, 0, reason)


def cleaned(answer: Response) -> Response:
    """The answer without lone surrogates, whatever backend or function it comes from."""
    if isinstance(answer, OptionLogprobs):
        return replace(answer, reason=clean(answer.reason))
    return replace(
        answer, text=clean(answer.text), reasoning=clean(answer.reasoning), reason=clean(answer.reason)
    )


class Backend(Protocol):
    """A model that can be asked. ``fingerprint`` names its function: equal fingerprints give equal answers."""

    fingerprint: str

    def render(self, request: Request) -> str:
        """The exact text the model would read."""
        ...

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        """Answer all calls, yielding ``(index, answer)`` as they are ready, in any order."""
        ...


class Model(Protocol):
    """What the verbs call: a model by way of the memo. Answers come in the order of the calls."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, requests: Sequence[Request]) -> list[Response]: ...
