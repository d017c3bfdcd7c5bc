"""Conversations with the models of a run: what was said, kept in a file of the run.

Each line of the file is something that happened: a question, an answer, a critique, or the choice
of the answer that a conversation goes on from. Nothing that was said is ever changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cai.keys import digest
from cai.records import Message, Prompt, Provenance, Record, Revision, Sample, Text
from cai.studio.json_lines import JsonLines
from cai.studio.library import stamp

TALKS = "talks.jsonl"
"""The file of a run that holds the conversations."""
KIND = "talk"
"""The set that the prompts of conversations belong to."""
WITH_TEXT = ("ok", "truncated")


class Asked(Record):
    """A turn of the user, and who is to answer it.

    Attributes:
        talk: Id of the conversation.
        turn: Number of the turn in it, from 0.
        prompt: The conversation up to this turn.
        speakers: Names of the models that answer: one, or two side by side.
        rater: Name of the person, which labels carry.
    """

    kind: Literal["asked"] = "asked"
    talk: str
    turn: int
    prompt: Prompt
    speakers: tuple[str, ...] = Field(min_length=1)
    rater: Text


class Answered(Record):
    """The answer of a model to a turn, or why there is none.

    Attributes:
        talk: Id of the conversation.
        turn: Number of the turn.
        speaker: Name of the model.
        sample: The answer.
    """

    kind: Literal["answered"] = "answered"
    talk: str
    turn: int
    speaker: str
    sample: Sample


class Criticized(Record):
    """The critique and revision of an answer by a principle.

    Attributes:
        talk: Id of the conversation.
        turn: Number of the turn.
        speaker: Name of the model that gave the answer.
        principle: Id of the principle.
        revision: The critique and revision; None if there is none.
        reason: Why there is none.
    """

    kind: Literal["criticized"] = "criticized"
    talk: str
    turn: int
    speaker: str
    principle: str
    revision: Revision | None = None
    reason: Text = ""


class Preferred(Record):
    """The answer that a conversation goes on from.

    Attributes:
        talk: Id of the conversation.
        turn: Number of the turn.
        speaker: Name of the model that gave the answer.
    """

    kind: Literal["preferred"] = "preferred"
    talk: str
    turn: int
    speaker: str


Event = Annotated[Asked | Answered | Criticized | Preferred, Field(discriminator="kind")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


@dataclass
class Turn:
    """A turn of a conversation with what came of it.

    Attributes:
        asked: What was asked.
        answers: The last answer of each model.
        attempts: How often each model has answered.
        critiques: The critiques of the last answer of each model.
        preferred: The model whose answer was chosen; empty if none was.
    """

    asked: Asked
    answers: dict[str, Sample] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    critiques: dict[str, list[Criticized]] = field(default_factory=dict)
    preferred: str = ""

    @property
    def goes_on_from(self) -> str:
        """The model whose answer the conversation goes on from: the chosen one, else the first."""
        usable = [name for name in self.asked.speakers if has_text(self.answers.get(name))]
        return self.preferred if self.preferred in usable else (usable or [""])[0]


@dataclass
class Talk:
    """A conversation.

    Attributes:
        id: Its id.
        turns: Its turns, oldest first.
    """

    id: str
    turns: list[Turn] = field(default_factory=list)

    def next_prompt(self, text: str) -> Prompt:
        """The conversation with a further turn of the user. A turn without answer is left out.

        Args:
            text: What the user says.

        Raises:
            ArgumentError: If the text is empty.
        """
        said: Sequence[Message] = ()
        for turn in reversed(self.turns):
            if turn.goes_on_from:
                answer = turn.answers[turn.goes_on_from].response
                said = turn.asked.prompt.with_answer(answer)
                break
        return Prompt.of((*said, Message(role="user", content=text)), KIND)


def has_text(sample: Sample | None) -> bool:
    """Whether an answer has a text that can be talked about.

    Args:
        sample: The answer; None if there is none yet.
    """
    return sample is not None and sample.status in WITH_TEXT and bool(sample.response.strip())


def no_answer(prompt: Prompt, reason: str) -> Sample:
    """The record of an answer that did not come.

    Args:
        prompt: The prompt.
        reason: Why.
    """
    nobody = Provenance(model="", seed=0, temperature=0, max_tokens=0)
    name = digest([prompt.id, reason])
    return Sample(
        id=name, prompt=prompt, response="", status="failed", reason=reason, provenance=nobody
    )


class TalkFile(JsonLines):
    """The conversations of a run.

    Args:
        path: The file; it is made with the first question.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _is_event, "a part of a conversation")

    def add(self, event: Event) -> None:
        """Add what happened.

        Args:
            event: It.

        Raises:
            LimitReached: If the file cannot be written.
        """
        self.append(event.model_dump(mode="json"))

    def talks(self) -> Mapping[str, Talk]:
        """All conversations by id, in the order in which they began."""
        return _talks(self.path, stamp(self.path))


def _is_event(row: Mapping[str, Any]) -> bool:
    try:
        _EVENT.validate_python(row)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=4)
def _talks(path: Path, _stamp: object) -> dict[str, Talk]:
    talks: dict[str, Talk] = {}
    for row in TalkFile(path).rows():
        _add(talks, _EVENT.validate_python(row))
    return talks


def _add(talks: dict[str, Talk], event: Event) -> None:
    """Add what happened; what belongs to no turn is left out."""
    talk = talks.setdefault(event.talk, Talk(event.talk))
    if isinstance(event, Asked):
        if event.turn == len(talk.turns):
            talk.turns.append(Turn(event))
        return
    if not 0 <= event.turn < len(talk.turns):
        return
    turn, speaker = talk.turns[event.turn], event.speaker
    if isinstance(event, Answered):
        turn.answers[speaker] = event.sample
        turn.attempts[speaker] = turn.attempts.get(speaker, 0) + 1
        turn.critiques.pop(speaker, None)
    elif isinstance(event, Criticized):
        turn.critiques.setdefault(speaker, []).append(event)
    else:
        turn.preferred = speaker
