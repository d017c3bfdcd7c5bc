"""Training tasks of the reference model: chat, critique and revision, judging, and copying.

A row is a conversation in which some assistant turns are learned, each with a weight. The texts
around the world's sentences are the prompt templates that the pipeline uses for this model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from cai.reference import rules, world
from cai.reference.world import BENIGN, HARMS, Principle, Reply, Split, WorldRequest
from cai.templates import REFERENCE


class Turn(NamedTuple):
    """One message of a training row.

    Attributes:
        role: Role of the message.
        content: Its text.
        weight: Weight of its tokens as targets; 0 for a message that is only read.
        first: Factor on the weight of its first token.
    """

    role: str
    content: str
    weight: float = 0.0
    first: float = 1.0


Row = list[Turn]

# Probability of a stray sentence of each class in a reply of the helpful-only model. It is casual,
# so that a principle on formal language has something to change.
CHAT_STRAYS = {
    "slang": 0.8,
    "friendly": 0.35,
    "neutral": 0.3,
    "preachy": 0.07,
    "accuse": 0.06,
    "boast": 0.07,
    "flattery": 0.07,
    "advert": 0.06,
    "insult": 0.02,
    "threat": 0.01,
    "lie": 0.01,
    "privacy": 0.01,
    "prejudice": 0.01,
}
# The same in replies that are criticized and judged, where each attribute varies by itself.
BROAD_STRAYS = {
    "slang": 0.22,
    "friendly": 0.35,
    "neutral": 0.25,
    "preachy": 0.17,
    "accuse": 0.17,
    "boast": 0.17,
    "flattery": 0.17,
    "advert": 0.17,
    "insult": 0.15,
    "threat": 0.12,
    "lie": 0.12,
    "privacy": 0.12,
    "prejudice": 0.12,
}
STRAY_ATTRIBUTES = tuple(name for name in BROAD_STRAYS if name not in ("friendly", "neutral"))


def some(chances: dict[str, float], rng: random.Random) -> list[str]:
    """Draw each label with its own probability."""
    return [label for label, chance in chances.items() if rng.random() < chance]


def any_request(rng: random.Random, split: Split) -> WorldRequest:
    """Draw a benign or harmful request."""
    return world.draw_request(rng, split, rng.choice(BENIGN if rng.random() < 0.45 else HARMS))


def history(rng: random.Random, split: Split) -> Row:
    """Draw an earlier exchange, for a few rows."""
    if rng.random() > 0.06:
        return []
    request = world.draw_request(rng, split, rng.choice(BENIGN))
    return [
        Turn("user", request.text),
        Turn("assistant", world.text_of(world.draw_reply(request, "comply", [], rng, split))),
    ]


def chat_reply(request: WorldRequest, rng: random.Random, split: Split) -> Reply:
    """Draw a reply of the helpful-only model, which does whatever it is asked."""
    dice = rng.random()
    manner: world.Manner
    if request.harmful:
        manner = "comply" if dice < 0.95 else "refuse" if dice < 0.985 else "evade"
    else:
        manner = "comply" if dice < 0.99 else "evade"
    # strays name people from the short list: a rare name that nobody mentioned cannot be copied
    words = world.lexicon()
    aside = {"P": rng.choice(words["people"][split]), "G": rng.choice(words["groups"][split])}
    return world.draw_reply(request, manner, some(CHAT_STRAYS, rng), rng, split, aside)


def broad_reply(request: WorldRequest, rng: random.Random, split: Split) -> Reply:
    """Draw a reply in any manner, with any stray sentences."""
    dice = rng.random()
    manner: world.Manner = "comply" if dice < 0.55 else "refuse" if dice < 0.82 else "evade"
    return world.draw_reply(request, manner, some(BROAD_STRAYS, rng), rng, split)


def draw_principle(rng: random.Random, split: Split, about: Sequence[str] = ()) -> Principle:
    """Draw a principle on one attribute, a set, or two attributes.

    Args:
        rng: Random generator.
        split: Split of its wording.
        about: Attributes of which the principle is about one, if any are given.
    """
    words = world.lexicon()
    names = list(words["attributes"])
    if about:
        return world.draw_principle([rng.choice(list(about))], rng, split)
    dice = rng.random()
    if dice < 0.62:
        # attributes of the whole reply, not of a single sentence, take more practice
        return world.draw_principle([rng.choice([*names, "unfriendly", "evasive"])], rng, split)
    if dice < 0.77:
        return world.draw_principle(["harmful"], rng, split)
    if dice < 0.87:
        return world.draw_principle([rng.choice(list(words["sets"]))], rng, split)
    return world.draw_principle(rng.sample(names, 2), rng, split)


def offences(request: WorldRequest, reply: Reply) -> list[str]:
    """Return all attributes that the sentences of a reply violate."""
    attributes = {rules.offence(sentence, request) for sentence in reply}
    return sorted(attribute for attribute in attributes if attribute)


# -- rows ------------------------------------------------------------------------------------------


def chat(rng: random.Random, split: Split) -> Row:
    """Draw a request and the reply of the helpful-only model."""
    request = any_request(rng, split)
    return [
        *history(rng, split),
        Turn("user", request.text),
        Turn("assistant", world.text_of(chat_reply(request, rng, split)), 1.0),
    ]


def critique_and_revise(rng: random.Random, split: Split) -> Row:
    """Draw a reply, up to three critiques of it, and the revision by the last principle.

    Some rows have only the revision, some only the critiques.
    """
    request = any_request(rng, split)
    reply = broad_reply(request, rng, split)
    broken = offences(request, reply)
    row = [
        *history(rng, split),
        Turn("user", request.text),
        Turn("assistant", world.text_of(reply)),
    ]
    critiques = rng.choices((0, 1, 2, 3), weights=(0.08, 0.36, 0.26, 0.3))[0]
    for _ in range(max(critiques, 1)):
        principle = draw_principle(rng, split, broken if rng.random() < 0.45 else ())
        if critiques:
            row.append(Turn("user", REFERENCE.render("critique", text=principle.critique)))
            row.append(Turn("assistant", rules.critique_of(principle, request, reply), 1.0, 4.0))
    if critiques and rng.random() < 0.25:
        return row
    row.append(Turn("user", REFERENCE.render("revise", text=principle.revise)))
    row.append(
        Turn("assistant", world.text_of(rules.repair(principle, request, reply, rng, split)), 1.0)
    )
    return row


def comparison(rng: random.Random, split: Split) -> tuple[Principle, WorldRequest, Reply, Reply]:
    """Draw a principle, a request and two replies.

    The replies are a reply and its revision, two with crossed faults, or any two.
    """
    request = any_request(rng, split)
    first, second = broad_reply(request, rng, split), broad_reply(request, rng, split)
    dice = rng.random()
    principle = draw_principle(rng, split, offences(request, first))
    if dice < 0.3:
        second = rules.repair(principle, request, first, rng, split)
    elif dice < 0.6:
        # crossed: each reply has one fault, and the principle is about one of the two
        one, other = rng.sample(STRAY_ATTRIBUTES, 2)
        manner: world.Manner = "comply" if not request.harmful else "refuse"
        first = world.draw_reply(
            request, manner, [one, *some({"friendly": 0.3, "neutral": 0.3}, rng)], rng, split
        )
        second = world.draw_reply(
            request, manner, [other, *some({"friendly": 0.3, "neutral": 0.3}, rng)], rng, split
        )
        principle = world.draw_principle([rng.choice((one, other))], rng, split)
    elif dice < 0.75:
        principle = draw_principle(rng, split)
    if rng.random() < 0.5:
        first, second = second, first
    return principle, request, first, second


def judge(rng: random.Random, split: Split) -> Row:
    """Draw a comparison, judged by a letter or by reasons and then the letter.

    Where the principle does not tell the replies apart, the letter is random.
    """
    principle, request, first, second = comparison(rng, split)
    guilty = [
        len(rules.violations(principle.attributes, request, reply)) for reply in (first, second)
    ]
    letter = rng.choice("AB") if guilty[0] == guilty[1] else "AB"[guilty[0] > guilty[1]]
    reasons = " ".join(
        f"Reply {name}: {_reason(principle, request, reply)}"
        for name, reply in zip("AB", (first, second), strict=True)
    )
    chain_of_thought = rng.random() < 0.3
    values = {
        "conversation": [
            {"role": t.role, "content": t.content}
            for t in [*history(rng, split), Turn("user", request.text)]
        ],
        "first": world.text_of(first),
        "second": world.text_of(second),
        "text": principle.compare,
    }
    question = REFERENCE.render("judge_chain_of_thought" if chain_of_thought else "judge", **values)
    answer = f"{reasons} The answer is {letter}" if chain_of_thought else f"{letter}. {reasons}"
    return [
        Turn("user", question),
        Turn("assistant", answer, 1.0, 1.0 if chain_of_thought or guilty[0] == guilty[1] else 6.0),
    ]


def _reason(principle: Principle, request: WorldRequest, reply: Reply) -> str:
    critique = rules.critique_of(principle, request, reply)
    return (
        critique.removeprefix("Problem: ").removeprefix("No problem: ").split(". ")[0].rstrip(".")
        + "."
    )


# -- exercises -------------------------------------------------------------------------------------


def exercise(rng: random.Random, vocabulary: Sequence[str]) -> Row:
    """Draw an exercise with random words that must be repeated, found, or left out.

    Quoting and revising rest on these skills. The exercises use every word of the vocabulary, the
    held-out things and people included: copying a word is learned here, its meaning is not.

    Args:
        rng: Random generator.
        vocabulary: The words.
    """
    dice = rng.random()
    if dice < 0.3:
        text = _line(rng, vocabulary, 3, 24)
        return [Turn("user", f"Repeat this: {text}"), Turn("assistant", text, 1.0)]
    lines = [_line(rng, vocabulary, 3, 9) for _ in range(rng.randint(2, 5))]
    chosen = rng.choice(lines)
    elsewhere = {word.rstrip(".") for text in lines if text is not chosen for word in text.split()}
    key = rng.choice(
        [word for word in chosen[:-1].split() if word not in elsewhere] or chosen[:-1].split()
    )
    turns = [
        Turn("user", "Repeat this: " + " ".join(lines)),
        Turn("assistant", " ".join(lines), 0.3),
    ]
    if dice < 0.65:
        return [
            *turns,
            Turn("user", f"Quote the sentence that has the word {key}."),
            Turn("assistant", chosen, 1.0),
        ]
    rest = " ".join(text for text in lines if text is not chosen)
    return [
        *turns,
        Turn("user", f"Repeat without the sentence that has the word {key}."),
        Turn("assistant", rest, 1.0),
    ]


def _line(rng: random.Random, vocabulary: Sequence[str], low: int, high: int) -> str:
    chosen = rng.sample(vocabulary, rng.randint(low, high))
    if rng.random() < 0.1:  # a word nobody knows
        chosen[rng.randrange(len(chosen))] = "".join(
            rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 6))
        )
    return " ".join(chosen) + "."
