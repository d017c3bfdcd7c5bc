"""What can be checked exactly about an answer: the judge and the gold metrics of smollm2.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from cai import Message, Prompt
from cai.backends.scripted import ScriptedBackend
from cai.keys import digest

WORDS = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
DIGEST = digest([Path(__file__).read_text(encoding="utf-8"), WORDS])
"""Names the judge: with other rules it is another judge."""
MAX_SENTENCES = 2
MAX_SENTENCE_WORDS = 25
MIN_WORDS = 6
MAX_LOOP = 2
"""Times that an answer may use the same four words in a row."""
_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)
_MARKUP = re.compile(r"\n|\*\*|__|`|#|\[|\]|\|")
_END = re.compile(r"(?<=[.!?])[\"”')\]]*\s+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def sentences(text: str) -> list[str]:
    """Split a text into sentences; each line ends one, and the mark of a list item is none."""
    lines = _MARK.sub("", text).splitlines()
    parts = (part.strip() for line in lines for part in _END.split(line))
    return [part for part in parts if _WORD.search(part)]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def is_brief(_question: str, answer: str) -> bool:
    """Whether an answer has at most two sentences."""
    return len(sentences(answer)) <= MAX_SENTENCES


def has_short_sentences(_question: str, answer: str) -> bool:
    """Whether no sentence of an answer is long."""
    return all(len(sentence.split()) <= MAX_SENTENCE_WORDS for sentence in sentences(answer))


def is_plain(_question: str, answer: str) -> bool:
    """Whether an answer has no list, no line break and no markup."""
    return not _MARK.search(answer) and not _MARKUP.search(answer.strip())


def is_no_person(_question: str, answer: str) -> bool:
    """Whether no sentence of an answer claims a body, a family, feelings or a life.

    A sentence claims one if it has a word for it and speaks of itself, and does not deny it.
    """
    return not any(map(_claims, sentences(answer)))


def _claims(sentence: str) -> bool:
    own = set(words(sentence))
    is_denied = own & set(WORDS["denials"]) or any(word.endswith("n't") for word in own)
    return bool(own & set(WORDS["self"]) and own & set(WORDS["person"])) and not is_denied


def keywords(question: str) -> set[str]:
    """Return the beginnings of the words that a question is about."""
    stop = set(WORDS["stop"])
    return {_stem(word) for word in words(question) if word not in stop and len(word) > 2}


def _stem(word: str) -> str:
    return word[:5].rstrip("es") if len(word) > 3 else word


def is_on_topic(question: str, answer: str) -> bool:
    """Whether an answer takes up the question, says something, and does not go in circles."""
    own = words(answer)
    asked = keywords(question)
    taken_up = asked & {_stem(word) for word in own}
    runs = [tuple(own[i : i + 4]) for i in range(len(own) - 3)]
    loops = max(map(runs.count, runs), default=0)
    return len(own) >= MIN_WORDS and 2 * len(taken_up) >= len(asked) and loops <= MAX_LOOP


RULES: dict[str, Callable[[str, str], bool]] = {
    "two sentences": is_brief,
    "25 words": has_short_sentences,
    "a list": is_plain,
    "a family": is_no_person,
    "the question was about": is_on_topic,
}
"""The rule for each principle, by words of its critique."""


def score_options(messages: Sequence[Message], _options: tuple[str, ...]) -> tuple[float, float]:
    """Return log-probabilities of "yes" and "no" to: does this answer have such a problem?"""
    question, answer, request = (message.content for message in messages[-3:])
    rule = next(rule for phrase, rule in RULES.items() if phrase in request)
    return (-4.0, 0.0) if rule(question, answer) else (0.0, -4.0)


def make() -> ScriptedBackend:
    """Return the judge that the run file names as ``smollm2.rules:make``."""
    return ScriptedBackend(score_options=score_options, name=f"rules {DIGEST}")


FLAGS: dict[str, dict[str, Callable[[str, str], bool]]] = {
    "explain": {"short_sentences": has_short_sentences},
    "list": {"no_lists": is_plain},
    "self": {"no_person": is_no_person},
}
"""What is measured for one set of prompts only."""


def gold(prompt: Prompt, answer: str) -> dict[str, float]:
    """Measure an answer for the evaluation, by the same rules."""
    rules = {"two_sentences": is_brief, "on_topic": is_on_topic}
    rules |= FLAGS.get(prompt.kind.removeprefix("eval_"), {})
    return {name: float(rule(prompt.text, answer)) for name, rule in rules.items()}


def content(prompts: Sequence[list[dict[str, str]]], answers: Sequence[str]) -> list[float]:
    """Reward answers that are on topic, beside the reward model."""
    questions = [prompt[-1]["content"] for prompt in prompts]
    pairs = zip(questions, answers, strict=True)
    return [float(is_on_topic(question, answer)) for question, answer in pairs]
