"""A conversation as plain text, for models without a chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cai.templates.prompts import DEFAULT

TRANSCRIPT_STOPS = ("\n\nHuman:", "\nHuman:", "\n\nAssistant:", "\nAssistant:")
"""What ends an answer in a transcript: the next turn, of either speaker."""
_SPEAKER = re.compile(r"\n\s*\n(?=(?:Human|Assistant|System):)")


def one_turn(text: str) -> str:
    """Return a text that reads as one turn of a transcript.

    A blank line before a speaker's name, which would begin a new turn, becomes a line break.
    """
    return _SPEAKER.sub("\n", text)


def transcript(turns: Sequence[Mapping[str, str]]) -> str:
    """Return the paper's plain-text form of a conversation, up to where the next answer begins.

    Args:
        turns: The turns, each with a ``role`` and a ``content``.
    """
    messages = [{"role": turn["role"], "content": one_turn(turn["content"])} for turn in turns]
    return DEFAULT.render("transcript", messages=messages) + "\n\nAssistant:"
