"""HH-RLHF transcripts: ``"\\n\\nHuman: ...\\n\\nAssistant: ..."`` and the conversation that one stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from cai.records import Message, Role
from cai.templates import one_turn

_ROLE: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = {"user": "Human", "assistant": "Assistant", "system": "System"}
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_STRAY = re.compile(r"(?:^|\n)\s*(?:Human|Assistant):")


def parse_transcript(text: str) -> tuple[tuple[Message, ...], str] | str:
    """Split a transcript at its last assistant turn into the conversation and the answer, or say why it cannot be."""
    pieces = _MARKER.split(text if text.startswith("\n\n") else f"\n\n{text}")
    speakers, said = pieces[1::2], [piece.strip() for piece in pieces[2::2]]
    if pieces[0].strip() or not speakers:
        return "is no transcript of Human and Assistant turns"
    if speakers[-1] != "Assistant":
        return "does not end with an assistant turn"
    if any(one == other for one, other in pairwise(speakers)):
        return "one speaker has two turns in a row"
    if speakers[0] != "Human":
        return "does not begin with a human turn"
    if not all(said[:-1]):
        return "a turn is empty"
    if _STRAY.search(said[-1]):
        return "an answer holds the mark of another turn"
    turns = tuple(
        Message(role=_ROLE[who], content=what)
        for who, what in zip(speakers[:-1], said[:-1], strict=True)
    )
    return turns, said[-1]


def transcript(turns: Sequence[Message], answer: str) -> str:
    """The transcript of a conversation and the answer to it."""
    said = [*((_SPEAKER[m.role], m.content) for m in turns), ("Assistant", answer)]
    return "".join(f"\n\n{who}: {one_turn(what)}" for who, what in said)
