"""Whether a reward model likes the dress of an answer, not what it says; and labels that teach it not to.

Reward models have been seen to pay for length, lists and assurances alone (arXiv 2310.03716, 2409.11704).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml
from torch import Tensor

from cai.keys import shuffled, uniform
from cai.models.chat_template.format import ChatFormat
from cai.records import Comparison, Preference
from cai.train.batching import TokenizedExample, tokenize
from cai.train.reward.dataset import CLEAR


def _listed(answer: str) -> str:
    return "\n".join(f"- {sentence}" for sentence in re.split(r"(?<=[.!?])\s+", answer))


def _styled(text: str, answer: str) -> str:
    return text.replace("{{ answer }}", answer)


_TEXTS: dict[str, str] = yaml.safe_load(
    Path(__file__).with_name("format_styles.yaml").read_text(encoding="utf-8")
)
STYLES: dict[str, Callable[[str], str]] = {
    name: partial(_styled, text) for name, text in _TEXTS.items()
} | {"list": _listed}
"""From an answer to the same answer dressed up."""
MOST = 64
"""Labels that are looked at."""
STYLE_TIE = "style_tie"
"""Source of the labels that hold a dressed-up copy against its plain answer."""


def style_ties(preferences: Sequence[Preference], share: float, seed: int) -> list[Preference]:
    """For a keyed share of the prompts, one answer and the same answer dressed up in one of the ways, labelled as equally good."""
    one_each = {
        p.comparison.prompt.id: p
        for p in reversed(preferences)
        if uniform(seed, "dressed", p.comparison.prompt.id) < share
    }
    found = []
    for name, preference in one_each.items():
        shown = preference.comparison
        answer = shown.first if uniform(seed, "dressed answer", name) < 0.5 else shown.second
        way = shuffled(list(STYLES), seed, "way", name)[0]
        comparison = Comparison.of(shown.prompt, answer, STYLES[way](answer))
        found.append(
            Preference(id=comparison.id, comparison=comparison, p_first=0.5, source=STYLE_TIE)
        )
    return found


def format_bias_metrics(
    score: Callable[[Sequence[TokenizedExample]], Tensor],
    preferences: Sequence[Preference],
    chat: ChatFormat,
    longest: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """For every way, by how much it raises the score of the worse answer (``shift``, in units of the score), and the share of pairs
    ordered rightly before that it turns round (``turned``, left out where none was). Pairs that are too long when dressed are left
    out; empty without any.
    """
    clear = [
        (p.comparison, p.p_first)
        for p in preferences
        if p.p_first is not None and abs(p.p_first - 0.5) > CLEAR
    ]
    rows: list[list[TokenizedExample]] = []
    for comparison, p_first in shuffled(clear, seed, "worn"):
        shown = comparison if p_first > 0.5 else comparison.swap()
        texts = [shown.first, shown.second, *(way(shown.second) for way in STYLES.values())]
        found = [row for text in texts if (row := tokenize(chat, shown.prompt, text, longest))]
        rows += [found] if len(found) == len(texts) else []
        if len(rows) == MOST:
            break
    if not rows:
        return {}
    better, worse, *format_augmentation = (
        score([row for pair in rows for row in pair]).view(len(rows), -1).unbind(1)
    )
    right = better > worse
    return {
        name: {"shift": float((styled - worse).mean())}
        | ({"turned": float((styled >= better)[right].float().mean())} if right.any() else {})
        for name, styled in zip(STYLES, format_augmentation, strict=True)
    }
