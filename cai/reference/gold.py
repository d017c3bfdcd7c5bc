"""Gold answers about the reference world: what an answer is, what a principle is about, and pairs to test a judge on.

Used to measure, never to train.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from cai.constitution.schema import Principle
from cai.records import Comparison, Prompt
from cai.reference import checkers, tasks, world


def read(prompt: Prompt, answer: str) -> dict[str, bool]:
    """The attributes of an answer; empty where the prompt is from outside the world.

    ``harmful`` and ``refusal`` where the request is harmful, ``helpful`` and ``evasive`` where it is not, and
    ``has_<attribute>`` for each attribute of the world.
    """
    request = checkers.parse_request(prompt.text)
    if request is None:
        return {}
    parsed = checkers.read(request, answer)
    if request.harmful:
        flags = {"harmful": parsed.harmful, "refusal": parsed.refuses}
    else:
        flags = {"helpful": parsed.helpful, "evasive": parsed.evasive}
    return flags | {
        f"has_{name}": name in parsed.attributes for name in world.lexicon()["attributes"]
    }


def kind(prompt: Prompt) -> str:
    """The kind of request a prompt makes (``insult``, ``howto`` ...), or nothing."""
    request = checkers.parse_request(prompt.text)
    return request.kind if request else ""


def attributes_of(principle: Principle) -> frozenset[str]:
    """The attributes a principle is about, by the phrases of the world in its texts; empty where it names none."""
    text = " ".join(filter(None, (principle.critique, principle.revise, principle.compare))).lower()
    found: set[str] = set()
    for phrase, members in _phrases():
        if phrase in text:
            found |= members
            text = text.replace(phrase, " ")
    return frozenset(found)


@cache
def _phrases() -> list[tuple[str, frozenset[str]]]:
    """Every phrase that a principle can be worded with and what it means, the longest first."""
    words = world.lexicon()
    phrases = []
    for name, entry in {**words["attributes"], **words["sets"]}.items():
        members = frozenset(entry.get("of", [name]))
        for form in ("np", "vp", "good"):
            phrases += [(text.lower(), members) for split in entry[form].values() for text in split]
    return sorted(phrases, key=lambda pair: -len(pair[0]))


def unknown_to_reference(principle: Principle) -> str | None:
    """Why the reference model cannot be expected to know a principle, or None where it can."""
    if attributes_of(principle):
        return None
    text = " ".join(filter(None, (principle.critique, principle.revise, principle.compare)))
    strange = sorted(
        {word for word in re.findall(r"[a-z]+", text.lower()) if word not in _vocabulary()}
    )
    words = f" (it never saw the words {', '.join(strange[:5])})" if strange else ""
    return f"{principle.id}: the reference model knows no such concept{words}; expect it to find no problem anywhere"


@cache
def _vocabulary() -> frozenset[str]:
    from cai.reference.tokenizer import words

    return frozenset(word.lower() for word in words())


class Crossed(NamedTuple):
    """Two answers with one fault each, and the two principles that fault the first and the second."""

    comparison: Comparison
    about_first: Principle
    about_second: Principle


def crossover_pairs(
    principles: Sequence[Principle], count: int, seed: int = 0, split: world.Split = "held"
) -> list[Crossed]:
    """Pairs in which the first answer breaks only one principle and the second only another: a judge that reads must flip."""
    rng = random.Random(seed)
    single = [
        (p, next(iter(a)))
        for p in principles
        if len(a := attributes_of(p)) == 1 and next(iter(a)) in tasks.STRAY_ATTRIBUTES
    ]
    pairs: list[Crossed] = []
    while len(pairs) < count and len(single) > 1:
        (one, first), (other, second) = rng.sample(single, 2)
        if first == second:
            continue
        request = tasks.any_request(rng, split)
        manner: world.Manner = "refuse" if request.harmful else "comply"
        texts = [
            world.text_of(world.draw_reply(request, manner, [fault, "neutral"], rng, split))
            for fault in (first, second)
        ]
        pairs.append(
            Crossed(Comparison.of(Prompt.of(request.text), texts[0], texts[1]), one, other)
        )
    return pairs


class Built(NamedTuple):
    """A prompt of the world with two answers made for it: one that does what is asked, one that refuses."""

    prompt: Prompt
    request: world.WorldRequest
    comply: str
    refuse: str


def built_answers(
    principles: Sequence[Principle], prompts: Sequence[Prompt], seed: int = 0
) -> list[Built]:
    """Both answers to each prompt of the world; red-team prompts of a kind that no principle is about are left out."""
    rng = random.Random(seed)
    covered = frozenset().union(*(attributes_of(principle) for principle in principles))
    found = []
    for prompt in prompts:
        request = checkers.parse_request(prompt.text)
        if request is None or (request.harmful and request.kind not in covered):
            continue
        comply, refuse = (
            world.text_of(world.draw_core(request, manner, rng, "held"))
            for manner in ("comply", "refuse")
        )
        found.append(Built(prompt, request, comply, refuse))
    return found
