"""Write the prompt files of the examples: ``python -m cai.reference.prompts FOLDER``."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cai.files import write_text
from cai.reference import world
from cai.reference.world import BENIGN, HARMS, Split

PREFERENCES = 900
"""Number of helpfulness preferences."""
BENIGN_KINDS = ("howto", "howto", "note", "about")
"""Kinds of benign request in turn: half of them are how-to questions."""


class PromptSet(NamedTuple):
    """The prompt files of one split.

    Attributes:
        split: The split of the world.
        prefix: Start of the files' names.
        red_team: Number of red-team prompts.
        benign: Number of benign prompts.
    """

    split: Split
    prefix: str
    red_team: int
    benign: int


PROMPT_SETS = (
    PromptSet("train", "train", 420, 420),
    PromptSet("dev", "dev", 140, 120),
    PromptSet("held", "eval", 140, 120),
)


def write_prompts(folder: Path, seed: int = 20) -> None:
    """Write the prompts of all splits, and helpfulness preferences on training topics.

    Args:
        folder: Folder to write to.
        seed: Random seed.
    """
    for prompt_set in PROMPT_SETS:
        rng, split = random.Random(f"{seed}-{prompt_set.split}"), prompt_set.split
        red_team = distinct(rng, split, HARMS, prompt_set.red_team)
        benign = distinct(rng, split, BENIGN_KINDS, prompt_set.benign)
        for name, texts in (("red_team", red_team), ("benign", benign)):
            path = folder / f"{prompt_set.prefix}_{name}.jsonl"
            _write_rows(path, ({"prompt": text} for text in texts))
    _write_rows(folder / "helpful_preferences.jsonl", helpful_preferences(seed))


def _write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def distinct(rng: random.Random, split: Split, kinds: tuple[str, ...], count: int) -> list[str]:
    """Draw different requests of several kinds in turn.

    Args:
        rng: Random generator.
        split: Split of the world.
        kinds: The kinds, in the order in which they take turns.
        count: Number of requests.
    """
    texts: dict[str, None] = {}
    turn = 0
    while len(texts) < count:
        texts[sensible(rng, split, kinds[turn % len(kinds)]).text] = None
        turn += 1
    return list(texts)


def sensible(rng: random.Random, split: Split, kind: str) -> world.WorldRequest:
    """Draw a request about a real thing, person or group, not about an arbitrary word.

    Args:
        rng: Random generator.
        split: Split of the world.
        kind: Kind of request.
    """
    words = world.lexicon()
    known = {*words["people"][split], *words["groups"][split]}
    for group in words["things"].values():
        known |= set(group["objects"][split])
    for names in words["crowd"].values():
        known |= set(names)
    while True:
        request = world.draw_request(rng, split, kind)
        if {request.slots.get(slot) for slot in "OPG"} & known:
            return request


def helpful_preferences(seed: int) -> list[dict[str, str]]:
    """Make comparisons of a helpful answer with one that does not help, on every benign topic.

    The worse answer refuses, evades, is about another thing, or answers another kind of request
    about the same thing.

    Args:
        seed: Random seed.
    """
    rng = random.Random(f"{seed}-preferences")
    rows = []
    for number in range(PREFERENCES):
        request = sensible(rng, "train", BENIGN_KINDS[number % len(BENIGN_KINDS)])
        labels = ("friendly", "neutral", "slang", "preachy", "boast")
        strays = [label for label in labels if rng.random() < 0.2]
        chosen = world.text_of(world.draw_reply(request, "comply", strays, rng, "train"))
        rejected = world.text_of(_unhelpful(request, strays, rng))
        if chosen != rejected:
            rows.append({"prompt": request.text, "chosen": chosen, "rejected": rejected})
    return rows


def _unhelpful(request: world.WorldRequest, strays: list[str], rng: random.Random) -> world.Reply:
    dice = rng.random()
    if dice < 0.33:
        return world.draw_reply(request, "refuse", strays, rng, "train")
    if dice < 0.45:
        return world.draw_reply(request, "evade", strays, rng, "train")
    other = sensible(rng, "train", request.kind) if dice < 0.8 else other_kind(request, rng)
    return world.draw_reply(other, "comply", strays, rng, "train")


def other_kind(request: world.WorldRequest, rng: random.Random) -> world.WorldRequest:
    """Make a benign request of another kind about the same thing, person or group.

    Args:
        request: A benign request.
        rng: Random generator.
    """
    name = next(request.slots[slot] for slot in "OPG" if slot in request.slots)
    kind = rng.choice([kind for kind in BENIGN if kind != request.kind])
    slots = {
        "howto": {"V": "buy", "O": name, "T": f"buy the {name}"},
        "note": {"P": name},
        "about": {"G": name},
    }[kind]
    return world.WorldRequest(kind, request.text, slots)


if __name__ == "__main__":
    write_prompts(Path(sys.argv[1]))
