"""Write the prompt files of the examples from the reference world: ``python -m cai.reference.prompts FOLDER``."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from cai.files import write_text
from cai.reference import world
from cai.reference.world import BENIGN, HARMS, Split

SIZES = {"train": (420, 420), "dev": (140, 120), "held": (140, 120)}
"""Red-team and benign prompts of each split."""
PREFERENCES = 900


def write_prompts(folder: Path, seed: int = 20) -> None:
    """Red-team and benign prompts of the three splits, and helpfulness preferences on training topics."""
    for split, (red, benign) in SIZES.items():
        rng = random.Random(f"{seed}-{split}")
        for name, kinds, count in (("red_team", HARMS, red), ("benign", BENIGN, benign)):
            texts = distinct(rng, split, kinds, count)  # type: ignore[arg-type]
            write_text(
                folder / f"{split}_{name}.jsonl",
                "".join(json.dumps({"prompt": text}) + "\n" for text in texts),
            )
    write_text(
        folder / "helpful_preferences.jsonl",
        "".join(json.dumps(row) + "\n" for row in helpful_preferences(seed)),
    )


def distinct(rng: random.Random, split: Split, kinds: tuple[str, ...], count: int) -> list[str]:
    """Different requests, the kinds in turn; of benign ones, half are how-to questions."""
    wanted = ("howto", "howto", "note", "about") if kinds == BENIGN else kinds
    texts: dict[str, None] = {}
    turn = 0
    while len(texts) < count:
        texts[sensible(rng, split, wanted[turn % len(wanted)]).text] = None
        turn += 1
    return list(texts)


def sensible(rng: random.Random, split: Split, kind: str) -> world.WorldRequest:
    """A request about a real thing, person or group, not about a word that stands in for one."""
    words = world.lexicon()
    known = {
        *words["people"][split],
        *words["groups"][split],
        *(o for g in words["things"].values() for o in g["objects"][split]),
    }
    known |= {name for names in words["crowd"].values() for name in names}
    while True:
        request = world.draw_request(rng, split, kind)
        if {request.slots.get(slot) for slot in "OPG"} & known:
            return request


def helpful_preferences(seed: int) -> list[dict[str, str]]:
    """Comparisons of a helpful answer with one that does not help, on every benign topic.

    The worse answer refuses, evades, is about another thing, or answers another kind of request about the same one.
    """
    rng = random.Random(f"{seed}-preferences")
    rows = []
    for number in range(PREFERENCES):
        request = sensible(rng, "train", ("howto", "howto", "note", "about")[number % 4])
        extras = [
            label
            for label in ("friendly", "neutral", "slang", "preachy", "boast")
            if rng.random() < 0.2
        ]
        good = world.draw_reply(request, "comply", extras, rng, "train")
        dice = rng.random()
        if dice < 0.45:
            bad = world.draw_reply(
                request, "refuse" if dice < 0.33 else "evade", extras, rng, "train"
            )
        else:
            other = sensible(rng, "train", request.kind) if dice < 0.8 else otherwise(request, rng)
            bad = world.draw_reply(other, "comply", extras, rng, "train")
        if world.text_of(good) != world.text_of(bad):
            rows.append(
                {
                    "prompt": request.text,
                    "chosen": world.text_of(good),
                    "rejected": world.text_of(bad),
                }
            )
    return rows


def otherwise(request: world.WorldRequest, rng: random.Random) -> world.WorldRequest:
    """A harmless request of another kind about the same thing, person or group."""
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
