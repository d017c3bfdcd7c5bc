r"""The prompt files of the Constitutional AI paper, and the frames that its texts have there.

The published files wrap each text for a model without a chat template::

    critique  "\n\nCritiqueRequest: ...\n\nCritique:"
    revise    "\n\nRevisionRequest: ...\n\nRevision:"
    compare   "\n..."
    prompt    "\n\nHuman: ...\n\nAssistant:"

An import takes the frames off and keeps the rest byte for byte; an export puts them on again.
"""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import Any

from cai.constitution.schema import Constitution, Example, FewShotRevision, Principle

FRAMES = {
    "critique": ("\n\nCritiqueRequest: ", "\n\nCritique:"),
    "revise": ("\n\nRevisionRequest: ", "\n\nRevision:"),
    "compare": ("\n", ""),
    "prompt": ("\n\nHuman: ", "\n\nAssistant:"),
}
"""What stands before and after a text, by kind."""
SPEAKERS = {"user": "Human", "assistant": "Assistant"}


def unframed(kind: str, text: str) -> str:
    """Take the paper's frame off a text; a text without it stays as it is.

    Args:
        kind: One of :data:`FRAMES`.
        text: The text.
    """
    before, after = FRAMES[kind]
    if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
        return text[len(before) : len(text) - len(after)]
    return text


def paper_files(constitution: Constitution) -> dict[str, str]:
    """Write a constitution as the paper's prompt files.

    Args:
        constitution: The constitution.

    Returns:
        The content by the name of the file. A file without content is left out.
    """
    used = constitution.principles
    revised = [used[name] for name in constitution.weights["revise"]]
    compared = [used[name] for name in constitution.weights["judge"]]
    contents: dict[str, Any] = {
        "CritiqueRevisionInstructions.json": {
            p.id.rpartition("/")[2]: {
                "prompt": [_framed("critique", p.critique or "")],
                "edit_request": _framed("revise", p.revise or ""),
            }
            for p in revised
        },
        "RLMadisonInstructions.json": [_framed("compare", p.compare or "") for p in compared],
        "CritiqueRevisionFewShotPrompts.json": [
            _transcript(shot, used[shot.principle]) for shot in constitution.few_shot
        ],
        "RLMadisonFewShotPrompts.json": [_comparison(e) for e in _in_turn(compared)],
    }
    return {name: json.dumps(content) for name, content in contents.items() if content}


def _framed(kind: str, text: str) -> str:
    before, after = FRAMES[kind]
    return f"{before}{text}{after}"


def _transcript(shot: FewShotRevision, principle: Principle) -> str:
    turns = [(SPEAKERS.get(turn.role, turn.role), turn.content) for turn in shot.earlier]
    turns += [
        ("Human", shot.prompt),
        ("Assistant", shot.answer),
        ("CritiqueRequest", principle.critique or ""),
        ("Critique", shot.critique),
        ("RevisionRequest", principle.revise or ""),
        ("Revision", shot.revision),
    ]
    return "".join(f"\n\n{label}: {text}" for label, text in turns) + shot.after


def _comparison(example: Example) -> dict[str, Any]:
    prompt = _framed("prompt", example.prompt)
    return {"prompt": prompt, "corrects": [example.better], "incorrects": [example.worse]}


def _in_turn(principles: list[Principle]) -> list[Example]:
    """Return the first example of each principle, then the second one, and so on."""
    columns = zip_longest(*(principle.examples for principle in principles))
    return [example for column in columns for example in column if example is not None]
