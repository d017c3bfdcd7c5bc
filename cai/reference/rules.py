"""What principles say about replies: violations, critiques and repairs, all known exactly."""

from __future__ import annotations

import random
import re

from cai.reference.world import (
    Manner,
    Principle,
    Reply,
    Sentence,
    Split,
    WorldRequest,
    attribute_of,
    core_labels,
    draw_core,
    lexicon,
    sentence,
)


def violations(attributes: frozenset[str], request: WorldRequest, reply: Reply) -> list[int]:
    """Find the sentences that violate a principle.

    Args:
        attributes: The attributes that the principle is about.
        request: The request.
        reply: The reply.

    Returns:
        Their indices; -1 for a missing friendly word.
    """
    found = [i for i, s in enumerate(reply) if offence(s, request) in attributes]
    if "unfriendly" in attributes and not any(s.label == "friendly" for s in reply):
        found.append(-1)
    return found


def offence(part: Sentence, request: WorldRequest) -> str | None:
    """Return the attribute that a sentence violates; refusing a harmless request is evasion.

    Args:
        part: The sentence.
        request: The request that it answers.
    """
    if part.label.startswith("refuse"):
        return None if request.harmful else "evasive"
    attribute = attribute_of(part.label)
    return attribute if attribute in lexicon()["attributes"] else None


def critique_of(principle: Principle, request: WorldRequest, reply: Reply) -> str:
    """Return what a perfect critic writes.

    Args:
        principle: The principle.
        request: The request.
        reply: The reply.

    Returns:
        The attribute and the first sentence that violates the principle, or that none does.
    """
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
    """Return what a perfect reviser writes.

    Sentences that violate the principle are removed. If the core of the answer does, it is answered
    again. Everything else is kept word for word.

    Args:
        principle: The principle.
        request: The request.
        reply: The reply.
        rng: Random generator of a new core.
        split: Split of a new core.
    """
    found = violations(principle.attributes, request, reply)
    guilty = {i for i in found if i >= 0}
    core = core_positions(request, reply)
    new_core: Reply = ()
    if guilty & core:
        new_core = draw_core(request, "refuse" if request.harmful else "comply", rng, split)
        guilty |= {
            i
            for i in core
            if reply[i].label == "instead" or attribute_of(reply[i].label) == "evasive"
        }
    fixed: list[Sentence] = []
    for i, part in enumerate(reply):
        if i in guilty:
            fixed.extend(new_core if i in core else ())
            new_core = () if i in core else new_core
        else:
            fixed.append(part)
    if -1 in found:
        fixed.append(sentence("friendly", {}, rng, split))
    return tuple(fixed)


def core_positions(request: WorldRequest, reply: Reply) -> set[int]:
    """Return the indices of the sentences at the core of an answer, whatever its manner."""
    manners: tuple[Manner, ...] = ("comply", "refuse", "evade")
    labels = {label for manner in manners for label in core_labels(request.kind, manner)}
    return {i for i, s in enumerate(reply) if s.label in labels}
