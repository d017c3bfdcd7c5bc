"""Records: frozen data that the functions of ``cai`` read and return.

``Prompt -> Sample -> Revision`` is the supervised half, ``Comparison -> Preference`` the other one.
Each record names the model, the principle (id and hash) and the seed that produced it. A label is
never a default value: where a model gave none, ``status`` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cai.cleaning import clean
from cai.errors import ArgumentError
from cai.keys import digest

Role = Literal["system", "user", "assistant"]
"""The author of a message."""
Status = Literal[
    "ok", "empty", "truncated", "invalid", "unscored", "too_long", "filtered", "failed"
]
"""Whether a record can be used, or why it cannot.

- ``ok``: it can be used.
- ``empty``: the model returned no text.
- ``truncated``: the text was cut off at ``max_tokens``.
- ``invalid``: the text is not what was asked for, such as a repetition of the request.
- ``unscored``: the judge returned nothing that could be read as a verdict.
- ``too_long``: the prompt did not fit into the model's context.
- ``filtered``: the server withheld the text.
- ``failed``: the request failed.
"""
SEVERITY: tuple[Status, ...] = (
    "ok",
    "unscored",
    "invalid",
    "empty",
    "truncated",
    "too_long",
    "filtered",
    "failed",
)
"""The statuses, the worst last: what is made from several records carries the worst of theirs."""
Text = Annotated[
    str, BeforeValidator(lambda value: clean(value) if isinstance(value, str) else value)
]
"""A string without lone surrogates, whether it comes from a file, a server or Python code."""


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst of some statuses; ``ok`` if there are none."""
    return max(statuses, key=SEVERITY.index, default="ok")


class Record(BaseModel):
    """Base class of all records: frozen, without extra fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation.

    Attributes:
        role: Who speaks: ``system``, ``user`` or ``assistant``.
        content: The text.
    """

    role: Role
    content: Text


class Provenance(Record):
    """Where a model's text comes from: enough to generate it again.

    Attributes:
        model: Fingerprint of the model.
        seed: Seed of the request.
        temperature: Sampling temperature; 0 is greedy.
        max_tokens: Maximum number of tokens in the response.
    """

    model: str
    seed: int
    temperature: float
    max_tokens: int


class Prompt(Record):
    """A conversation that ends with a user turn.

    Attributes:
        id: Digest of the messages.
        messages: The turns, oldest first.
        kind: The set that the prompt belongs to, such as ``red_team`` or ``benign``.
    """

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    kind: str = "prompt"

    @classmethod
    def of(cls, messages: str | Sequence[Message], kind: str = "prompt") -> Prompt:
        """Make a prompt and give it the id of its content.

        Args:
            messages: The text of a single user turn, or the turns of a conversation.
            kind: The set that the prompt belongs to.

        Returns:
            The prompt.

        Raises:
            ArgumentError: If there are no messages, or the last one is not a user turn with a text.
        """
        turns = _turns(messages)
        if not turns or turns[-1].role != "user":
            raise ArgumentError("prompt", "must end with a user turn")
        if not turns[-1].content.strip():
            raise ArgumentError("prompt", "is empty; its last user turn must have a text")
        return cls(id=digest([[m.role, m.content] for m in turns]), messages=turns, kind=kind)

    @property
    def text(self) -> str:
        """Text of the last user turn."""
        return self.messages[-1].content

    def with_answer(self, answer: str) -> tuple[Message, ...]:
        """Return the conversation continued by an assistant turn."""
        return (*self.messages, Message(role="assistant", content=answer))


def _turns(messages: object) -> tuple[Message, ...]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence):
        actual = type(messages).__name__
        raise ArgumentError("prompt", f"must be a text or a list of messages, not {actual}")
    try:
        return tuple(Message.model_validate(message) for message in messages)
    except ValidationError as error:
        detail = error.errors()[0]["msg"]
        raise ArgumentError("prompt", f"contains an invalid message: {detail}") from None


class Sample(Record):
    """A model's response to a prompt.

    Attributes:
        id: Digest of the prompt, the provenance and the draw.
        prompt: The prompt.
        response: The response; empty if there is none.
        draw: Number of this response among those to the same prompt, from 0.
        status: Whether the response can be used.
        reason: Why it cannot: the server's message or the limit that was reached.
        provenance: The model and the sampling values.
        reasoning: What a reasoning model wrote before its response; it is never judged.
    """

    id: str
    prompt: Prompt
    response: Text
    draw: int = 0
    status: Status = "ok"
    reason: Text = ""
    provenance: Provenance
    reasoning: Text = ""


class Step(Record):
    """One round of critique and revision by one principle.

    Attributes:
        principle: Id of the principle.
        principle_hash: Hash of the principle's texts.
        critique: The critique; empty if the response is revised without one.
        revision: The revised response; the previous one if the status is not ``ok``.
        unchanged: Whether the revision equals the previous response.
        status: Whether the step succeeded; after a failed critique no revision is requested.
        reason: Why it did not.
        removed: What was removed around the revision, such as ``preface`` or ``quotes``, see
            :func:`cai.feedback.rewritten.find_rewritten`.
        written: What the model wrote, where the revision is not exactly that.
        reasoning: What a reasoning model wrote before the critique and before the revision.
    """

    principle: str
    principle_hash: str
    critique: Text
    revision: Text
    unchanged: bool
    status: Status = "ok"
    reason: Text = ""
    removed: tuple[str, ...] = ()
    written: Text = ""
    reasoning: tuple[Text, ...] = ()


class Revision(Record):
    """A sample and its rounds of critique and revision.

    Attributes:
        id: Digest of what it was made from: the sample, the critic, how it was asked, and the
            principles of the steps.
        sample: The original response.
        steps: The rounds, in order.
    """

    id: str
    sample: Sample
    steps: tuple[Step, ...]

    @property
    def final(self) -> str:
        """The last successful revision; the sample's own response if there is none."""
        for step in reversed(self.steps):
            if step.status == "ok":
                return step.revision
        return self.sample.response


class Comparison(Record):
    """Two answers to one prompt.

    Attributes:
        id: Digest of the prompt's id and both answers.
        prompt: The prompt.
        first: The answer that the judge sees first.
        second: The answer that the judge sees second.
        origins: Names of the models that wrote the first and the second answer, if known.
    """

    id: str
    prompt: Prompt
    first: Text
    second: Text
    origins: tuple[str, str] = ("", "")

    @classmethod
    def of(
        cls, prompt: Prompt, first: str, second: str, origins: tuple[str, str] = ("", "")
    ) -> Comparison:
        """Make a comparison and give it the id of its content.

        Args:
            prompt: The prompt.
            first: The answer that the judge sees first.
            second: The answer that the judge sees second.
            origins: Names of the models that wrote the two answers.

        Returns:
            The comparison.
        """
        first, second = clean(first), clean(second)
        return cls(
            id=digest([prompt.id, first, second]),
            prompt=prompt,
            first=first,
            second=second,
            origins=origins,
        )

    def swap(self) -> Comparison:
        """Return the same two answers in the other order."""
        origins = (self.origins[1], self.origins[0])
        return Comparison.of(self.prompt, self.second, self.first, origins)


class Judgment(Record):
    """A judge's verdict on a comparison by one principle, with its evidence.

    Attributes:
        principle: Id of the principle.
        principle_hash: Hash of the principle's texts.
        method: Name of the judge method, such as ``option_logprobs``.
        p_first: Probability that the first answer is the better one; None if there is no verdict.
        status: Whether there is a verdict; if not, the worst status of the judge's responses.
        reason: What went wrong with some or all of the judge's responses.
        fallback: What the verdict was read from instead of what was asked for, such as
            ``8 of 8 votes instead of log-probabilities``; empty if there was no need.
        evidence: The numbers behind the verdict, by name: the probability of an option for each
            order of the answers, or the probability that a critique finds a problem in each answer.
        option_mass: For each order or answer, the probability that the judge's answer begins with
            any of the options. Where it is small, the verdict is read from what the judge hardly
            ever says. Empty for methods that let it write.
        text: The text that the judge wrote, for methods that let it write.
        template: Digest of the template of the judge's prompt.
        seeds: Seeds of the sampled responses, for methods that sample.
        temperature: Temperature of the sampled responses, for methods that sample.
        tokens: Number of tokens read and written.
        judge: Fingerprint of the judge; empty if none was asked.
    """

    principle: str
    principle_hash: str
    method: str
    p_first: float | None
    status: Status = "ok"
    reason: Text = ""
    fallback: Text = ""
    evidence: dict[str, float] = {}
    option_mass: tuple[float, ...] = ()
    text: Text = ""
    template: str = ""
    seeds: tuple[int, ...] = ()
    temperature: float | None = None
    tokens: tuple[int, int] = (0, 0)
    judge: str = ""

    def swap(self) -> Judgment:
        """Return the same verdict for the answers in the other order."""
        return self.model_copy(update={"p_first": _complement(self.p_first)})


class Preference(Record):
    """A comparison with its label, or with the reason why it has none.

    Attributes:
        id: Digest of what the label was made from: the comparison, the judge, how it was asked and
            the principles; or of the row that it was read from.
        comparison: The two answers.
        p_first: Probability that the first answer is the better one; None if there is no label.
        status: ``ok`` exactly if there is a label; otherwise the worst status of the judgments.
        reason: What went wrong with some or all of the judgments.
        source: Where the label comes from, such as ``ai`` or ``human``; training does not read it.
        margin: By how much the better answer leads, in units of reward, if the annotator said so.
        judgments: The verdicts by principle that the label combines.
        judge: Fingerprint of the judge, or of several, joined by ``+``; empty for labels by people.
    """

    id: str
    comparison: Comparison
    p_first: float | None = Field(default=None, ge=0, le=1)
    status: Status = "ok"
    reason: Text = ""
    source: Text
    margin: float = Field(default=0.0, ge=0)
    judgments: tuple[Judgment, ...] = ()
    judge: str = ""

    @model_validator(mode="after")
    def _label_or_reason(self) -> Preference:
        if (self.p_first is None) == (self.status == "ok"):
            raise ValueError("a preference needs either a label or a status that says why not")
        return self

    def swap(self) -> Preference:
        """Return the same label for the answers in the other order."""
        return self.model_copy(
            update={
                "comparison": self.comparison.swap(),
                "p_first": _complement(self.p_first),
                "judgments": tuple(judgment.swap() for judgment in self.judgments),
            }
        )


def _complement(p_first: float | None) -> float | None:
    return None if p_first is None else 1 - p_first


class Ranking(Record):
    """Answers to one prompt, best first.

    Attributes:
        prompt: The prompt.
        answers: The answers, best first.
        strengths: Bradley-Terry strength of each answer: answer ``i`` beats answer ``j`` with
            probability ``sigmoid(strengths[i] - strengths[j])``.
    """

    prompt: Prompt
    answers: tuple[Text, ...]
    strengths: tuple[float, ...]
