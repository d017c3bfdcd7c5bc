"""What is true of the reference world: of an answer, of a principle, and of answers built for it.

Used to measure, never to train. :mod:`cai.reference.evaluation` offers it to a run.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

from cai.constitution.schema import Principle
from cai.evaluate.gold import BuiltAnswers, CrossoverPair
from cai.records import Comparison, Prompt
from cai.reference import checkers, tasks, world


def flags(prompt: Prompt, answer: str) -> Mapping[str, bool]:
    """Return the gold flags of an answer.

    Args:
        prompt: The prompt.
        answer: The answer, whoever wrote it.

    Returns:
        ``harmful`` and ``refusal`` for a harmful request, ``helpful`` and ``evasive`` for a benign
        one, and ``has_<attribute>`` for each attribute of the world. Empty for a prompt from
        outside the world.
    """
    return _flags(prompt.text, answer)


@lru_cache(maxsize=4096)
def _flags(request_text: str, answer: str) -> Mapping[str, bool]:
    request = checkers.parse_request(request_text)
    if request is None:
        return {}
    parsed = checkers.parse_answer(request, answer)
    if request.harmful:
        by_request = {"harmful": parsed.harmful, "refusal": parsed.refuses}
    else:
        by_request = {"helpful": parsed.helpful, "evasive": parsed.evasive}
    attributes = world.lexicon()["attributes"]
    return by_request | {f"has_{name}": name in parsed.attributes for name in attributes}


def request_kind(prompt: Prompt) -> str | None:
    """Return the kind of request that a prompt makes, such as ``insult`` or ``howto``.

    Args:
        prompt: The prompt.

    Returns:
        None for a prompt from outside the world.
    """
    request = checkers.parse_request(prompt.text)
    return request.kind if request else None


@cache
def attributes_of(principle: Principle) -> frozenset[str]:
    """Find the attributes that a principle is about, by the world's phrases in its texts.

    Args:
        principle: Any principle.

    Returns:
        The attributes; empty if no text contains a phrase of the world.
    """
    text = _text_of(principle).lower()
    attributes: set[str] = set()
    for phrase, members in _phrases():
        if phrase in text:
            attributes |= members
            text = text.replace(phrase, " ")
    return frozenset(attributes)


def _text_of(principle: Principle) -> str:
    return " ".join(filter(None, (principle.critique, principle.revise, principle.compare)))


@cache
def _phrases() -> list[tuple[str, frozenset[str]]]:
    """Every phrase that a principle can be worded with and its attributes, the longest first."""
    words = world.lexicon()
    phrases = []
    for name, entry in {**words["attributes"], **words["sets"]}.items():
        members = frozenset(entry.get("of", [name]))
        for form in world.PHRASE_FORMS:
            for texts in entry[form].values():
                phrases += [(text.lower(), members) for text in texts]
    return sorted(phrases, key=lambda phrase: -len(phrase[0]))


def unknown_to_reference(principle: Principle) -> str | None:
    """Explain why the reference model cannot know a principle.

    Args:
        principle: Any principle.

    Returns:
        One line, or None if the model has a concept of it.
    """
    if attributes_of(principle):
        return None
    words = re.findall(r"[a-z]+", _text_of(principle).lower())
    unseen = sorted(set(words) - _vocabulary())[:5]
    unseen_words = f" (it has never seen {', '.join(unseen)})" if unseen else ""
    return (
        f"{principle.id}: the reference model has no such concept{unseen_words}; "
        "it will not find a problem in any answer"
    )


@cache
def _vocabulary() -> frozenset[str]:
    from cai.reference.tokenizer import words

    return frozenset(word.lower() for word in words())


def crossover_pairs(
    principles: Sequence[Principle], count: int, seed: int = 0, split: world.Split = "held"
) -> list[CrossoverPair]:
    """Build pairs in which each answer violates one principle only.

    Args:
        principles: Principles to cross; those about exactly one attribute are used.
        count: Number of pairs.
        seed: Random seed.
        split: Split of the requests and answers.

    Returns:
        The pairs; none if fewer than two attributes can be crossed.
    """
    rng = random.Random(seed)
    single: list[tuple[Principle, str]] = []
    for principle in principles:
        attributes = attributes_of(principle)
        if len(attributes) == 1 and attributes <= set(tasks.STRAY_ATTRIBUTES):
            single.append((principle, next(iter(attributes))))
    if len({attribute for _, attribute in single}) < 2:
        return []
    pairs: list[CrossoverPair] = []
    while len(pairs) < count:
        (about_first, fault_first), (about_second, fault_second) = rng.sample(single, 2)
        if fault_first == fault_second:
            continue
        request = tasks.any_request(rng, split)
        manner: world.Manner = "refuse" if request.harmful else "comply"
        first, second = (
            world.text_of(world.draw_reply(request, manner, [fault, "neutral"], rng, split))
            for fault in (fault_first, fault_second)
        )
        comparison = Comparison.of(Prompt.of(request.text), first, second)
        pairs.append(CrossoverPair(comparison, about_first, about_second))
    return pairs


def built_answers(
    principles: Sequence[Principle], prompts: Sequence[Prompt], seed: int = 0
) -> list[BuiltAnswers]:
    """Build a complying and a refusing answer to each prompt of the world.

    Args:
        principles: The principles of a run. Harmful requests of a kind that none of them is about
            are left out.
        prompts: The prompts; those from outside the world are left out.
        seed: Random seed.
    """
    rng = random.Random(seed)
    covered = frozenset[str]().union(*(attributes_of(principle) for principle in principles))
    built = []
    for prompt in prompts:
        request = checkers.parse_request(prompt.text)
        if request is None or (request.harmful and request.kind not in covered):
            continue
        comply = world.text_of(world.draw_core(request, "comply", rng, "held"))
        refuse = world.text_of(world.draw_core(request, "refuse", rng, "held"))
        built.append(BuiltAnswers(prompt, request.kind, request.harmful, comply, refuse))
    return built
