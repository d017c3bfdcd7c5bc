"""What a backend is: something that completes conversations and weighs options, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cai.records import Message

Finish = Literal["stop", "length", "too_long"]


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


@dataclass(frozen=True)
class Choice:
    """The answer to a :class:`Choose` call: natural logarithms of the options' probabilities, not normalised."""

    logprobs: tuple[float, ...]
    tokens_in: int
    finish: Finish = "stop"


Answer = Completion | Choice


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
