"""What a backend is: something that completes conversations and weighs options, many at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from cai.cleaning import clean
from cai.records import Message

Finish = Literal["stop", "length", "too_long", "filtered", "failed"]
"""How an answer ended: by itself, at its length limit, never begun, held back by the server, or not to be had at all."""


@dataclass(frozen=True)
class Complete:
    """A call that asks for the next answer of a conversation."""

    messages: tuple[Message, ...]
    seed: int
    temperature: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True)
class Choose:
    """A call that asks with what probability the next answer begins with each of the options."""

    messages: tuple[Message, ...]
    options: tuple[str, ...]


Call = Complete | Choose


@dataclass(frozen=True)
class Completion:
    """The answer to a :class:`Complete` call."""

    text: str
    finish: Finish
    tokens_in: int
    tokens_out: int
    note: str = ""  # why it failed
    thoughts: str = ""  # what a model that thinks aloud wrote before its answer; no part of the answer


@dataclass(frozen=True)
class Choice:
    """The answer to a :class:`Choose` call: natural logarithms of the options' probabilities, not normalised."""

    logprobs: tuple[float, ...]
    tokens_in: int
    finish: Finish = "stop"
    votes: int = 0  # samples the probabilities are shares of, where a server gives no log-probabilities
    note: str = ""


Answer = Completion | Choice


def failed(call: Call, note: str, finish: Finish = "failed") -> Answer:
    """The answer of a call that has none, with the reason."""
    if isinstance(call, Choose):
        return Choice((math.nan,) * len(call.options), 0, finish, note=note)
    return Completion("", finish, 0, 0, note)


def cleaned(answer: Answer) -> Answer:
    """The answer without lone surrogates, whatever backend or function it comes from."""
    if isinstance(answer, Choice):
        return replace(answer, note=clean(answer.note))
    return replace(answer, text=clean(answer.text), thoughts=clean(answer.thoughts), note=clean(answer.note))


class Backend(Protocol):
    """A model that can be asked. ``fingerprint`` names its function: equal fingerprints give equal answers."""

    fingerprint: str

    def rendered(self, call: Call) -> str:
        """The exact text the model would read."""
        ...

    def answers(self, calls: Sequence[Call]) -> Iterator[tuple[int, Answer]]:
        """Answer all calls, yielding ``(index, answer)`` as they are ready, in any order."""
        ...


class Ask(Protocol):
    """What the verbs call: a model by way of the memo. Answers come in the order of the calls."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, calls: Sequence[Call]) -> list[Answer]: ...
