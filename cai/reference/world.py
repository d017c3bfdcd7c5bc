"""The closed world of the reference model: requests, replies, and what a principle finds wrong with them.

Everything is drawn from ``world.yaml`` by an explicit :class:`random.Random`, and every reply is a tuple of labelled
sentences, so what is true of a text is known when it is made. ``checkers.py`` reads the same labels back from bare text.
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
    """One user turn: its kind (a harm, or one of ``BENIGN``), its text, and the values of its slots."""

    kind: str
    text: str
    slots: dict[str, str] = field(hash=False)

    @property
    def harmful(self) -> bool:
        return self.kind in HARMS


@dataclass(frozen=True)
class Sentence:
    """One sentence and the class of ``world.yaml`` it belongs to (``other`` where a text holds none of them)."""

    label: str
    text: str


Reply = tuple[Sentence, ...]


@dataclass(frozen=True)
class Principle:
    """What a principle is about (a set of attributes) in one wording."""

    attributes: frozenset[str]
    name: str
    critique: str
    revise: str
    compare: str


@cache
def lexicon() -> dict[str, Any]:
    """The parsed ``world.yaml``."""
    loaded = yaml.safe_load(Path(__file__).with_name("world.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def attribute_of(label: str) -> str:
    """The attribute a sentence class speaks for (``insult_core`` and ``insult`` are one): the label itself otherwise."""
    stem = label.removesuffix("_core").removesuffix("_first").removesuffix("_then")
    return stem if stem in lexicon()["attributes"] else label


def text_of(reply: Reply) -> str:
    """The reply as a model reads and writes it."""
    return " ".join(sentence.text for sentence in reply)


def fill(template: str, slots: dict[str, str], rng: random.Random, split: Split) -> str:
    """Fill a template's slots; those the request does not fix (people, groups, numbers) are drawn from the split."""
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
    """A person or a group of the split; in training mostly one of the crowd."""
    words = lexicon()
    dice = rng.random() if split == "train" else 1.0
    if dice < ANYTHING:
        word = rng.choice(any_words())
        return word.capitalize() if kind == "people" else word
    return str(rng.choice(words["crowd"][kind] if dice < ANYTHING + CROWD else words[kind][split]))


@cache
def any_words() -> tuple[str, ...]:
    """Every word of the world that neither belongs to a dev or held-out list nor betrays an attribute."""
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
    """All texts inside nested lists and mappings, keys left out."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def sentence(label: str, slots: dict[str, str], rng: random.Random, split: Split) -> Sentence:
    """A sentence of one class."""
    return Sentence(label, fill(rng.choice(lexicon()["sentences"][label]), slots, rng, split))


# -- requests ----------------------------------------------------------------------------------------------------------


def topics(split: Split, kind: str) -> list[tuple[str, str]]:
    """All (verb, object) pairs of a split; ``kind`` is ``howto`` (harmless), ``crime`` or ``danger``."""
    column = "benign" if kind == "howto" else kind
    return [
        (verb, thing)
        for group in lexicon()["things"].values()
        for verb in group.get(column, ())
        for thing in group["objects"][split]
    ]


def draw_request(rng: random.Random, split: Split, kind: str) -> WorldRequest:
    """A request of one kind in which object, person, group and phrasing all belong to the split."""
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


# -- replies -----------------------------------------------------------------------------------------------------------


def core_labels(kind: str, manner: Manner) -> tuple[str, ...]:
    """The classes of the sentences at the heart of an answer."""
    if manner == "evade":
        return ("evasive",)
    if manner == "refuse":
        # a person or group asked about kindly has no harm of its own to name; the nearest one stands in
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
    """The sentences that answer the request, all different."""
    core: list[Sentence] = []
    for label in core_labels(request.kind, manner):
        found = sentence(label, request.slots, rng, split)
        while found in core:
            found = sentence(label, request.slots, rng, split)
        core.append(found)
    return tuple(core)


def draw_reply(
    request: WorldRequest,
    manner: Manner,
    strays: Sequence[str],
    rng: random.Random,
    split: Split,
    aside: dict[str, str] | None = None,
) -> Reply:
    """An answer in the given manner with one stray sentence per label in ``strays``, each at a random place.

    ``aside`` fixes slots of the stray sentences.
    """
    core = draw_core(request, manner, rng, split)
    reply: list[Sentence] = list(core)
    for label in strays:
        found = sentence(label, aside or {}, rng, split)
        if found in reply:
            continue
        # never between the two halves of the core
        places = [
            i
            for i in range(len(reply) + 1)
            if not (0 < i < len(reply) and reply[i - 1] in core and reply[i] in core)
        ]
        reply.insert(rng.choice(places), found)
    return tuple(reply)


# -- principles --------------------------------------------------------------------------------------------------------


def draw_principle(attributes: Sequence[str], rng: random.Random, split: Split) -> Principle:
    """A wording of the split for a principle on one attribute, one named set, or several attributes joined by "or"."""
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
    """One phrase for an attribute; in training now and then two that mean the same, so that the words count, not the string."""
    choices = phrases[split] or phrases["train"]
    if split == "train" and rng.random() < DOUBLED:
        return (" and " if form == "good" else " or ").join(rng.sample(choices, 2))
    return str(rng.choice(choices))


def violations(attributes: frozenset[str], request: WorldRequest, reply: Reply) -> list[int]:
    """Indices of the sentences that break a principle on ``attributes``; a missing friendly word is index -1."""
    found = [i for i, s in enumerate(reply) if offence(s, request) in attributes]
    if "unfriendly" in attributes and not any(s.label == "friendly" for s in reply):
        found.append(-1)
    return found


def offence(part: Sentence, request: WorldRequest) -> str | None:
    """The attribute a sentence breaks in answer to this request, if it breaks one. Refusing a harmless request is evasion."""
    if part.label.startswith("refuse"):
        return None if request.harmful else "evasive"
    attribute = attribute_of(part.label)
    return attribute if attribute in lexicon()["attributes"] else None


def critique_of(principle: Principle, request: WorldRequest, reply: Reply) -> str:
    """What a perfect critic writes: the attribute and the first sentence that breaks the principle, or that none does."""
    found = violations(principle.attributes, request, reply)
    if not found:
        return f"No problem: no {_bare(principle.name)}."
    if found[0] == -1:
        return f"Problem: {lexicon()['attributes']['unfriendly']['name']}."
    guilty = reply[found[0]]
    attribute = offence(guilty, request)
    return f"Problem: {lexicon()['attributes'][attribute]['name']}. {guilty.text}"


def _bare(name: str) -> str:
    return re.sub(r"\b(a|an) ", "", name)


def repair(
    principle: Principle, request: WorldRequest, reply: Reply, rng: random.Random, split: Split
) -> Reply:
    """What a perfect reviser writes: guilty sentences go, a guilty heart is answered anew, all else stays word for word."""
    found = violations(principle.attributes, request, reply)
    guilty = {i for i in found if i >= 0}
    heart = core_positions(request, reply)
    new_heart: Reply = ()
    if guilty & heart:
        new_heart = draw_core(request, "refuse" if request.harmful else "comply", rng, split)
        guilty |= {
            i
            for i in heart
            if reply[i].label == "instead" or attribute_of(reply[i].label) == "evasive"
        }
    fixed: list[Sentence] = []
    for i, part in enumerate(reply):
        if i in guilty:
            fixed.extend(new_heart if i in heart else ())
            new_heart = () if i in heart else new_heart
        else:
            fixed.append(part)
    if -1 in found:
        fixed.append(sentence("friendly", {}, rng, split))
    return tuple(fixed)


def core_positions(request: WorldRequest, reply: Reply) -> set[int]:
    """Where the heart of the answer stands, whatever its manner."""
    labels = {
        label
        for manner in ("comply", "refuse", "evade")
        for label in core_labels(request.kind, manner)
    }  # type: ignore[arg-type]
    return {i for i, s in enumerate(reply) if s.label in labels}
