"""Read the examples that a Markdown constitution has in marked blocks.

Two shapes are known. A block marked ``example`` holds ``prompt``, ``better`` and ``worse`` in YAML.
A block of code marked ``xml`` holds a conversation whose answers are marked as good and bad::

    <user>Is it raining?</user>
    <comparison>
    <assistant> <!-- GOOD -->I cannot see the weather.</assistant>
    <assistant> <!-- BAD -->Yes, it is raining hard.</assistant>
    </comparison>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from cai.constitution.markdown import Block
from cai.constitution.schema import Example
from cai.documents import parse, validated
from cai.errors import InputError, Problem

LABEL = "example"
"""The label of a block that holds an example."""
FOR_PEOPLE = ("meta", "comment")
"""The labels of marked blocks that only people read."""
_TURN = re.compile(
    r"<(user|system|developer|assistant|tool)>[ \t]*(?:<!--(.*?)-->)?(.*?)</\1>", re.DOTALL
)
_ANNOUNCEMENT = re.compile(r"^\W{0,3}example\b", re.IGNORECASE)


class Extracted(NamedTuple):
    """The blocks of a section without its examples.

    Attributes:
        blocks: The blocks that a model may read.
        examples: The examples.
        unpaired: The lines of the conversations that are no example, because they do not have one
            turn of the user, a good answer and a bad one.
    """

    blocks: list[Block]
    examples: list[Example]
    unpaired: list[int]


def without_examples(path: Path, blocks: Sequence[Block]) -> Extracted:
    """Take the examples out of the blocks of a section.

    Args:
        path: The file, for messages.
        blocks: The blocks.

    Raises:
        InputError: if a block that is marked as an example is none.
    """
    found = Extracted([], [], [])
    problems: list[Problem] = []
    for block in blocks:
        if block.label == LABEL and block.kind != "text":
            try:
                found.examples.append(_written(path, block))
            except InputError as error:
                problems += error.problems
        elif block.label == "xml" and _TURN.search(block.text):
            _drop_announcement(found.blocks)
            examples = _from_conversation(block.text)
            found.examples.extend(examples)
            if not examples:
                found.unpaired.append(block.line)
        elif block.label not in FOR_PEOPLE:
            found.blocks.append(block)
    if problems:
        raise InputError(problems)
    return found


def _written(path: Path, block: Block) -> Example:
    """Read an example in YAML; its problems are at their lines of the file."""
    text = block.text
    if block.kind == "code":
        text = "\n".join(text.split("\n")[1:-1])
    document = parse(path, "\n" * block.line + text)
    return validated(Example, document)


def _from_conversation(text: str) -> list[Example]:
    """Pair the bad answers of a conversation with the first good one."""
    before, mark, _ = text.partition("<comparison>")
    turns = _TURN.findall(before if mark else text)
    asked = [content.strip() for role, _, content in turns if role != "assistant"]
    answers = [turn for turn in _TURN.findall(text) if turn[0] == "assistant"]
    good = [content for _, mark, content in answers if mark.strip().startswith("GOOD")]
    bad = [content for _, mark, content in answers if mark.strip().startswith("BAD")]
    is_one_turn = len(asked) == 1 and turns[0][0] == "user" and len(answers) == len(good) + len(bad)
    if not good or not is_one_turn:
        return []
    try:
        return [Example(prompt=asked[0], better=good[0], worse=worse) for worse in bad]
    except ValidationError:  # an answer is empty or too long
        return []


def _drop_announcement(blocks: list[Block]) -> None:
    """Leave out a line such as "**Example**: a lie", which is about what follows."""
    if blocks and "\n" not in blocks[-1].text and _ANNOUNCEMENT.match(blocks[-1].text):
        del blocks[-1]
