"""The nouns: frozen records that carry what is needed to read each of them alone.

``Prompt -> Sample -> Revision`` for the supervised half, ``Comparison -> Preference`` for the other. A record knows which
model, which principle (id and hash) and which seed made it. There is no label by default: where a model gave none,
``status`` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cai.cleaning import clean
from cai.errors import ArgumentError
from cai.keys import digest

Role = Literal["system", "user", "assistant"]
Status = Literal["ok", "empty", "truncated", "unscored", "too_long", "filtered", "failed"]
Text = Annotated[
    str, BeforeValidator(lambda value: clean(value) if isinstance(value, str) else value)
]
"""A string without lone surrogates, wherever it comes from: a file, a server, or a Python function."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: Text


class Provenance(Record):
    """How a model's text came to be, enough to make it again."""

    model: str  # fingerprint of the model
    seed: int
    temperature: float
    max_tokens: int


class Prompt(Record):
    """A conversation that ends with a user turn. ``kind`` names the set it came from (``red_team``, ``benign`` ...)."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    kind: str = "prompt"

    @classmethod
    def of(cls, messages: str | Sequence[Message], kind: str = "prompt") -> Prompt:
        """A prompt with the id of its content.

        Raises:
            ArgumentError: if there are no messages, or the last one is not a user turn with a text.
        """
        turns = _turns(
            [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        )
        if not turns or turns[-1].role != "user":
            raise ArgumentError("prompt", "must end with a user turn")
        if not turns[-1].content.strip():
            raise ArgumentError("prompt", "is empty; its last user turn must have a text")
        return cls(id=digest([[m.role, m.content] for m in turns]), messages=turns, kind=kind)

    @property
    def text(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    def with_answer(self, answer: str) -> tuple[Message, ...]:
        return (*self.messages, Message(role="assistant", content=answer))


def _turns(messages: object) -> tuple[Message, ...]:
    if not isinstance(messages, Sequence):
        raise ArgumentError(
            "prompt", f"must be a text or a list of messages, not {type(messages).__name__}"
        )
    try:
        return tuple(Message.model_validate(message) for message in messages)
    except ValidationError as error:
        raise ArgumentError(
            "prompt", f"holds something that is not a message: {error.errors()[0]['msg']}"
        ) from None


class Sample(Record):
    """An answer of a model to a prompt; ``draw`` numbers the answers to one prompt."""

    id: str
    prompt: Prompt
    response: Text
    draw: int = 0
    status: Status = "ok"
    reason: Text = ""  # why it is not ok, in the words of the server or the limit that was reached
    provenance: Provenance
    reasoning: Text = (
        ""  # what the model wrote before its answer, where it thinks aloud; never judged
    )


class Step(Record):
    """One round of critique and revision by one principle."""

    principle: str
    principle_hash: str
    critique: Text  # empty when revising directly
    revision: Text  # the reply before where the status is not ok
    unchanged: bool
    status: Status = "ok"  # of the critique where that failed: no revision is asked for then
    reason: Text = ""  # why it is not ok
    reasoning: tuple[
        Text, ...
    ] = ()  # before the critique and before the revision, where the critic thinks aloud


class Revision(Record):
    """A sample and its rounds of critique and revision."""

    id: str
    sample: Sample
    steps: tuple[Step, ...]

    @property
    def final(self) -> str:
        """The last revision that is a usable text; the sample's own response where there is none."""
        return next(
            (s.revision for s in reversed(self.steps) if s.status == "ok"), self.sample.response
        )


class Comparison(Record):
    """Two answers to one prompt, with the name of the model each came from."""

    id: str
    prompt: Prompt
    first: Text
    second: Text
    origins: tuple[str, str] = ("", "")

    @classmethod
    def of(
        cls, prompt: Prompt, first: str, second: str, origins: tuple[str, str] = ("", "")
    ) -> Comparison:
        first, second = clean(first), clean(second)
        return cls(
            id=digest([prompt.id, first, second]),
            prompt=prompt,
            first=first,
            second=second,
            origins=origins,
        )

    def swap(self) -> Comparison:
        """The same two answers in the other order."""
        return Comparison.of(
            self.prompt, self.second, self.first, (self.origins[1], self.origins[0])
        )


class Judgment(Record):
    """What one look of the judge by one principle said, with its evidence.

    ``p_first`` is the probability that the first answer is the better one; ``evidence`` holds the numbers it was read
    from (per order the letters' probabilities, or per answer the probability that a critique finds a problem).
    """

    principle: str
    principle_hash: str
    method: str
    p_first: float | None
    status: Status = "ok"
    reason: Text = (
        ""  # what went wrong with the judge's answers, those that a label could do without too
    )
    evidence: dict[str, float] = {}
    text: Text = ""
    template: str = ""  # digest of the template that asked
    seeds: tuple[int, ...] = ()  # of the samples, where the verdict was sampled
    temperature: float | None = None  # likewise
    tokens: tuple[int, int] = (0, 0)  # read and written

    def swap(self) -> Judgment:
        flipped = None if self.p_first is None else 1 - self.p_first
        return self.model_copy(update={"p_first": flipped})


class Preference(Record):
    """A comparison with its label: the probability that the first answer is the better one, or a status that says why
    there is none. ``source`` names where the label came from; nothing that trains reads it."""

    id: str
    comparison: Comparison
    p_first: float | None = Field(default=None, ge=0, le=1)
    status: Status = "ok"
    source: Text
    margin: float = Field(
        default=0.0, ge=0
    )  # by how much the better one leads, in units of a reward, where somebody said so
    judgments: tuple[Judgment, ...] = ()
    judge: str = ""  # fingerprint of the model that judged

    @model_validator(mode="after")
    def _label_or_reason(self) -> Preference:
        if (self.p_first is None) == (self.status == "ok"):
            raise ValueError(
                "a preference has either a label or a status that says why there is none"
            )
        return self

    def swap(self) -> Preference:
        """The same judgement of the same answers in the other order."""
        flipped = None if self.p_first is None else 1 - self.p_first
        judgments = tuple(judgment.swap() for judgment in self.judgments)
        return self.model_copy(
            update={
                "comparison": self.comparison.swap(),
                "p_first": flipped,
                "judgments": judgments,
            }
        )


def dump(record: Record) -> dict[str, Any]:
    """The record as plain JSON values."""
    return record.model_dump(mode="json")


class Ranking(Record):
    """Answers to one prompt, best first; by their ``strengths`` the one beats the other with ``sigmoid(s_one - s_other)``."""

    prompt: Prompt
    answers: tuple[Text, ...]
    strengths: tuple[float, ...]
