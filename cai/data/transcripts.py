"""HH-RLHF transcripts, in which "Human:" and "Assistant:" begin the turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from cai.records import Message, Role
from cai.templates import one_turn

_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System"}
_TURN_START = re.compile(r"\n\n(Human|Assistant):")
_STRAY_SPEAKER = re.compile(r"(?:^|\n)\s*(?:Human|Assistant):")


def parse_transcript(text: str) -> tuple[tuple[Message, ...], str] | str:
    """Split a transcript into the conversation and the answer, its last assistant turn.

    Returns:
        The turns and the answer, or the reason why the text has none.
    """
    before, *pieces = _TURN_START.split(text if text.startswith("\n\n") else f"\n\n{text}")
    speakers = pieces[::2]
    texts = [piece.strip() for piece in pieces[1::2]]
    if before.strip() or not speakers:
        return "is not a transcript of Human and Assistant turns"
    if speakers[-1] != "Assistant":
        return "does not end with an assistant turn"
    if any(speaker == following for speaker, following in pairwise(speakers)):
        return "one speaker has two turns in a row"
    if speakers[0] != "Human":
        return "does not begin with a human turn"
    *earlier, answer = texts
    if not all(earlier):
        return "a turn is empty"
    if _STRAY_SPEAKER.search(answer):
        return "an answer contains the beginning of another turn"
    turns = (
        Message(role=_ROLES[speaker], content=content)
        for speaker, content in zip(speakers[:-1], earlier, strict=True)
    )
    return tuple(turns), answer


def transcript(turns: Sequence[Message], answer: str) -> str:
    """Write a conversation and the answer to it as a transcript."""
    spoken = [(_SPEAKERS[turn.role], turn.content) for turn in turns]
    spoken.append(("Assistant", answer))
    return "".join(f"\n\n{speaker}: {one_turn(content)}" for speaker, content in spoken)
