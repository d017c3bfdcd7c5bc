"""The closed world of the reference model: requests, replies and principles.

Everything is drawn from ``world.yaml`` by an explicit :class:`random.Random`. Every reply is a
tuple of labeled sentences, so the truth about a text is known when it is made. ``checkers.py``
recovers the same labels from bare text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Split = Literal["train", "dev", "held"]
Manner = Literal["comply", "refuse", "evade"]

HARMS = ("crime", "danger", "threat", "insult", "lie", "privacy", "prejudice")
"""Attributes that make a reply harmful; each is also a kind of red-team request."""
BENIGN = ("howto", "note", "about")
"""Kinds of harmless request."""
PHRASE_FORMS = ("np", "vp", "good")
"""Forms of the phrases that principles are worded with: noun, verb, and what is good instead."""
_ABOUT_GROUPS = ("prejudice", "about")
CROWD, ANYTHING = 0.45, 0.3
"""Shares of training rows whose thing, person or group is from the crowd, or is any word at all.

Where any word may occur, its position tells what the request is about; that carries over to
held-out words.
"""
DOUBLED = 0.2
"""Share of training principles that name their subject twice, joined by "or" ("and" if good)."""
NUMBERS = tuple(range(11, 60)) + tuple(range(101, 999, 37))


@dataclass(frozen=True)
class WorldRequest:
    """One user turn.

    Attributes:
        kind: Its kind: one of ``HARMS`` or of ``BENIGN``.
        text: Its text.
        slots: The values of its slots.
    """

    kind: str
    text: str
    slots: dict[str, str] = field(hash=False)

    @property
    def harmful(self) -> bool:
        """Whether it asks for harm."""
        return self.kind in HARMS


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        label: Its class in ``world.yaml``; ``other`` for a sentence from outside the world.
        text: Its text.
    """

    label: str
    text: str


Reply = tuple[Sentence, ...]


@dataclass(frozen=True)
class Principle:
    """A principle in one wording.

    Attributes:
        attributes: The attributes that it is about.
        name: Their names.
        critique: Asks a critic.
        revise: Asks for a revision.
        compare: Asks a judge.
    """

    attributes: frozenset[str]
    name: str
    critique: str
    revise: str
    compare: str


@cache
def lexicon() -> dict[str, Any]:
    """Return the content of ``world.yaml``."""
    loaded = yaml.safe_load(Path(__file__).with_name("world.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def attribute_of(label: str) -> str:
    """Return the attribute of a sentence class: ``insult`` for ``insult_core``; else the class."""
    stem = label.removesuffix("_core").removesuffix("_first").removesuffix("_then")
    return stem if stem in lexicon()["attributes"] else label


def text_of(reply: Reply) -> str:
    """Return the text of a reply."""
    return " ".join(sentence.text for sentence in reply)


def fill(template: str, slots: dict[str, str], rng: random.Random, split: Split) -> str:
    """Fill the slots of a template.

    Args:
        template: A sentence with slots such as ``{P}``.
        slots: The slots that the request fixes.
        rng: Random generator of the others: people, groups, numbers.
        split: Split that they are drawn from.
    """
    words = lexicon()

    def value(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot in slots:
            return slots[slot]
        if slot in "PG":
            return draw_name("people" if slot == "P" else "groups", rng, split)
        return str(rng.choice(words["streets"] if slot == "S" else NUMBERS))

    filled = re.sub(r"\{(\w)\}", value, template)
    return filled[0].upper() + filled[1:]


def draw_name(kind: Literal["people", "groups"], rng: random.Random, split: Split) -> str:
    """Draw a person or a group of the split; in training mostly from the crowd."""
    words = lexicon()
    dice = rng.random() if split == "train" else 1.0
    if dice < ANYTHING:
        word = rng.choice(any_words())
        return word.capitalize() if kind == "people" else word
    return str(rng.choice(words["crowd"][kind] if dice < ANYTHING + CROWD else words[kind][split]))


@cache
def any_words() -> tuple[str, ...]:
    """Return every word that is in no dev or held-out list and marks no attribute."""
    words = lexicon()
    kept_back = {
        word
        for markers in words["markers"].values()
        for marker in markers
        for word in marker.split()
    }
    for split in ("dev", "held"):
        kept_back |= {name.lower() for name in [*words["people"][split], *words["groups"][split]]}
        kept_back |= {
            thing for group in words["things"].values() for thing in group["objects"][split]
        }
    texts = [
        words["sentences"],
        words["attributes"],
        words["sets"],
        words["crowd"],
        words["requests"],
    ]
    found = {word.lower() for word in re.findall(r"[A-Za-z]{3,}", " ".join(strings(texts)))}
    return tuple(sorted(found - kept_back))


def strings(value: object) -> Iterator[str]:
    """Yield all texts inside of nested lists and mappings; keys are left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def sentence(label: str, slots: dict[str, str], rng: random.Random, split: Split) -> Sentence:
    """Draw a sentence of a class."""
    return Sentence(label, fill(rng.choice(lexicon()["sentences"][label]), slots, rng, split))


# -- requests --------------------------------------------------------------------------------------


def topics(split: Split, kind: str) -> list[tuple[str, str]]:
    """Return all pairs of verb and object of a split.

    Args:
        split: The split.
        kind: ``howto`` (harmless), ``crime`` or ``danger``.
    """
    column = "benign" if kind == "howto" else kind
    return [
        (verb, thing)
        for group in lexicon()["things"].values()
        for verb in group.get(column, ())
        for thing in group["objects"][split]
    ]


def draw_request(rng: random.Random, split: Split, kind: str) -> WorldRequest:
    """Draw a request whose object, person, group and phrasing belong to a split.

    Args:
        rng: Random generator.
        split: The split.
        kind: One of ``HARMS`` or of ``BENIGN``.
    """
    words = lexicon()
    slots: dict[str, str] = {}
    if kind in ("howto", "crime", "danger"):
        verb, thing = rng.choice(topics(split, kind))
        dice = rng.random() if split == "train" else 1.0
        if dice < ANYTHING + CROWD:
            thing = rng.choice(any_words() if dice < ANYTHING else words["crowd"]["things"])
        adjective = f"{rng.choice(words['adjectives'])} " if rng.random() < 0.4 else ""
        slots = {"V": verb, "O": thing, "T": f"{verb} the {adjective}{thing}"}
    elif kind in _ABOUT_GROUPS:
        slots = {"G": draw_name("groups", rng, split)}
    else:
        slots = {"P": draw_name("people", rng, split)}
    phrasing = words["requests"]["howto" if "T" in slots else kind][split]
    text = fill(rng.choice(phrasing), slots, rng, split)
    if rng.random() < 0.2:
        text = f"{rng.choice(words['chatter']['before'])} {text}"
    if rng.random() < 0.15:
        text = f"{text} {rng.choice(words['chatter']['after'])}"
    return WorldRequest(kind, text, slots)


# -- replies ---------------------------------------------------------------------------------------


def core_labels(kind: str, manner: Manner) -> tuple[str, ...]:
    """Return the classes of the sentences at the core of an answer.

    Args:
        kind: Kind of request.
        manner: Whether the answer complies, refuses or evades.
    """
    if manner == "evade":
        return ("evasive",)
    if manner == "refuse":
        # a kind request about a person or a group has no harm to name; the nearest one is used
        about = {
            "note": "insult",
            "about": "prejudice",
            "howto": "topic",
            "crime": "topic",
            "danger": "topic",
        }.get(kind, kind)
        return (f"refuse_{about}", "instead")
    if kind in ("crime", "danger"):
        return (f"{kind}_first", f"{kind}_then")
    if kind in HARMS:
        return (f"{kind}_core", f"{kind}_core")
    return {"howto": ("first", "then"), "note": ("praise", "praise"), "about": ("info", "info")}[
        kind
    ]


def draw_core(request: WorldRequest, manner: Manner, rng: random.Random, split: Split) -> Reply:
    """Draw the sentences that answer a request; all of them differ."""
    core: list[Sentence] = []
    for label in core_labels(request.kind, manner):
        drawn = sentence(label, request.slots, rng, split)
        while drawn in core:
            drawn = sentence(label, request.slots, rng, split)
        core.append(drawn)
    return tuple(core)


def draw_reply(
    request: WorldRequest,
    manner: Manner,
    strays: Sequence[str],
    rng: random.Random,
    split: Split,
    aside: dict[str, str] | None = None,
) -> Reply:
    """Draw an answer with stray sentences at random places.

    Args:
        request: The request.
        manner: Whether the answer complies, refuses or evades.
        strays: The class of each stray sentence.
        rng: Random generator.
        split: Split of what is drawn.
        aside: Fixed slots of the stray sentences.
    """
    core = draw_core(request, manner, rng, split)
    reply: list[Sentence] = list(core)
    for label in strays:
        stray = sentence(label, aside or {}, rng, split)
        if stray in reply:
            continue
        # never between the two halves of the core
        places = [
            i
            for i in range(len(reply) + 1)
            if not (0 < i < len(reply) and reply[i - 1] in core and reply[i] in core)
        ]
        reply.insert(rng.choice(places), stray)
    return tuple(reply)


# -- principles ------------------------------------------------------------------------------------


def draw_principle(attributes: Sequence[str], rng: random.Random, split: Split) -> Principle:
    """Draw the wording of a principle.

    Args:
        attributes: Attributes or named sets; several are joined by "or".
        rng: Random generator.
        split: Split of the phrases.
    """
    words = lexicon()
    known = {**words["attributes"], **words["sets"]}
    form = rng.choice(("np", "np", "vp", "vp", "good"))
    if len(attributes) > 1 and form == "good":
        form = "np"

    def frame(task: str) -> str:
        phrases = [_phrase(known[name][form], form, rng, split) for name in attributes]
        text = str(rng.choice(words["frames"][task][form][split])).replace(
            "{X}", " or ".join(phrases)
        )
        return text[0].upper() + text[1:]

    members = frozenset(
        a for name in attributes for a in words["sets"].get(name, {"of": [name]})["of"]
    )
    name = " or ".join(known[n]["name"] for n in attributes)
    return Principle(members, name, frame("critique"), frame("revise"), frame("compare"))


def _phrase(phrases: dict[str, list[str]], form: str, rng: random.Random, split: Split) -> str:
    """Draw a phrase; in training sometimes two of the same meaning, so that each word counts."""
    choices = phrases[split] or phrases["train"]
    if split == "train" and rng.random() < DOUBLED:
        return (" and " if form == "good" else " or ").join(rng.sample(choices, 2))
    return str(rng.choice(choices))
