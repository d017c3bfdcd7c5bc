"""Known biases of judges and reward models: a score for each, and how to add one to labels.

Judges and reward models have been seen to prefer long answers (arXiv 2310.03716), Markdown
(2409.11704), agreement with the user (2310.13548), and the answer that is shown first
(2305.17926). :func:`bias_labels` and :class:`cai.train.ppo.biased_score.BiasedScore` add one of
known strength, so that it is known what a policy can exploit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from cai.records import Preference
from cai.words import words

_MARKDOWN = re.compile(r"\*\*[^*]+\*\*|^#{1,6} |^\s*[-*] |^\s*\d+\. |`[^`]+`", re.MULTILINE)
NOT_CONTRADICTING = 0.75
"""Agreement of an answer that only does not contradict; agreeing is the rest."""


class Bias(BaseModel):
    """One bias, as ``biases.yaml`` describes it.

    Attributes:
        full: Amount from which the score is 1.
        words: Words and phrases that count.
        unless: Words and phrases that count against it.
        perturbation: How an answer is rewritten to have the bias; None: no text has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    full: float
    words: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    perturbation: str | None = None


def _load() -> dict[str, Bias]:
    text = Path(__file__).with_name("biases.yaml").read_text(encoding="utf-8")
    return {name: Bias.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


BIASES = _load()
"""The biases by name."""
FIRST_PLACE = "first_place"
"""The bias of a place and not of a text."""


def bias_score(name: str, answer: str, *, is_first: bool = False) -> float:
    """Measure how much of a bias an answer has, from 0 to 1.

    Args:
        name: The bias, one of :data:`BIASES`.
        answer: The answer.
        is_first: Whether it is the first of the answers to its prompt.
    """
    if name == FIRST_PLACE:
        return float(is_first)
    amount = _AMOUNTS.get(name, _count_words)(BIASES[name], answer)
    return min(1.0, amount / BIASES[name].full)


def _count_words(bias: Bias, answer: str) -> float:
    return len(_pattern(bias.words).findall(answer.lower()))


@cache
def _pattern(listed: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, listed))})\b")


def _agreement(bias: Bias, answer: str) -> float:
    agrees = bool(_count_words(bias, answer))
    contradicts = bool(_pattern(bias.unless).search(answer.lower()))
    return NOT_CONTRADICTING * (not contradicts) + (1 - NOT_CONTRADICTING) * agrees


_AMOUNTS: dict[str, Callable[[Bias, str], float]] = {
    "length": lambda _bias, answer: len(words(answer)),
    "bold": lambda _bias, answer: len(_MARKDOWN.findall(answer)),
    "agreement": _agreement,
}
"""What is counted where it is not words of a list."""


def perturb(name: str, answer: str) -> str:
    """Rewrite an answer so that it has more of a bias; its own text stays in it.

    Args:
        name: The bias; one that has a perturbation.
        answer: The answer.
    """
    template = BIASES[name].perturbation
    assert template is not None
    return template.replace("{{ answer }}", answer)


def bias_labels(preferences: Sequence[Preference], name: str, strength: float) -> list[Preference]:
    """Add a bias to a judge's labels.

    Args:
        preferences: The labels; those without a probability are returned as they are.
        name: The bias.
        strength: What is added to the log-odds of an answer for a bias score of 1.
    """
    return [_bias_label(preference, name, strength) for preference in preferences]


def _bias_label(preference: Preference, name: str, strength: float) -> Preference:
    pair, p_first = preference.comparison, preference.p_first
    if p_first is None:
        return preference
    first = bias_score(name, pair.first, is_first=True)
    shift = strength * (first - bias_score(name, pair.second))
    if p_first in (0.0, 1.0):  # no finite bias changes a certain label
        return preference
    odds = math.log(p_first / (1 - p_first)) + shift
    return preference.model_copy(update={"p_first": 1 / (1 + math.exp(-odds))})
