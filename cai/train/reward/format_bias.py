"""Measure whether a reward model is biased toward the form of an answer, and labels against it.

Reward models have been seen to reward length, lists and assurances by themselves (arXiv 2310.03716,
2409.11704).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from cai.keys import shuffled, uniform
from cai.models.chat_template.format import ChatFormat
from cai.records import Comparison, Preference
from cai.ties import is_near_tie
from cai.train.batching import TokenizedExample, tokenize

MAX_PAIRS = 64
"""Maximum number of labels that format bias is measured on."""
STYLE_TIE = "style_tie"
"""Source of the labels that tie an answer with a reformatted copy of it."""


def _fill_in(template: str, answer: str) -> str:
    return template.replace("{{ answer }}", answer)


def _as_list(answer: str) -> str:
    sentences = re.split(r"(?<=[.!?])\s+", answer)
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _load_styles() -> dict[str, Callable[[str], str]]:
    path = Path(__file__).with_name("format_styles.yaml")
    templates: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    styles: dict[str, Callable[[str], str]] = {
        name: partial(_fill_in, template) for name, template in templates.items()
    }
    return styles | {"list": _as_list}


STYLES = _load_styles()
"""Functions that reformat an answer and leave its content alone, by name."""


def style_ties(preferences: Sequence[Preference], share: float, seed: int) -> list[Preference]:
    """Label reformatted answers as equally good as the original.

    Args:
        preferences: Comparisons to take answers from.
        share: Fraction of the prompts that get such a label.
        seed: Seed of the choice of prompts, answers and styles.

    Returns:
        At most one label per prompt, between one of its answers and a reformatted copy.
    """
    by_prompt: dict[str, Preference] = {}
    for preference in reversed(preferences):
        prompt_id = preference.comparison.prompt.id
        if uniform(seed, "dressed", prompt_id) < share:
            by_prompt[prompt_id] = preference
    return [_style_tie(preference.comparison, seed) for preference in by_prompt.values()]


def _style_tie(source: Comparison, seed: int) -> Preference:
    prompt_id = source.prompt.id
    use_first = uniform(seed, "dressed answer", prompt_id) < 0.5
    answer = source.first if use_first else source.second
    style = shuffled(list(STYLES), seed, "way", prompt_id)[0]
    comparison = Comparison.of(source.prompt, answer, STYLES[style](answer))
    return Preference(id=comparison.id, comparison=comparison, p_first=0.5, source=STYLE_TIE)


def format_bias_metrics(
    score: Callable[[Sequence[TokenizedExample]], Tensor],
    preferences: Sequence[Preference],
    chat: ChatFormat,
    max_length: int,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Measure what reformatting the worse answer of a clear label does to its score.

    Args:
        score: Scores examples, ``[B]``.
        preferences: Labels to measure on; a keyed choice of ``MAX_PAIRS`` clear ones is used.
            Labels whose reformatted answers are too long are skipped.
        chat: How the model writes conversations.
        max_length: Maximum tokens of prompt and answer.
        seed: Seed of the choice.

    Returns:
        By style, ``shift``, the mean rise of the score, and ``flipped``, the fraction of labels
        ordered right that it turns around, left out if no label was ordered right; empty if there
        is nothing to measure.
    """
    rows = _reformatted_rows(preferences, chat, max_length, seed)
    if not rows:
        return {}
    scores = score([example for row in rows for example in row]).view(len(rows), -1)
    better, worse, *reformatted = scores.unbind(1)
    is_right = better > worse
    metrics: dict[str, dict[str, float]] = {}
    for style, styled in zip(STYLES, reformatted, strict=True):
        metrics[style] = {"shift": float((styled - worse).mean())}
        if is_right.any():
            metrics[style]["flipped"] = float((styled >= better)[is_right].float().mean())
    return metrics


def format_bias_summary(by_style: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Report format bias by style, and the largest fraction of labels that a style turns around."""
    flipped = [metrics["flipped"] for metrics in by_style.values() if "flipped" in metrics]
    summary: dict[str, Any] = {}
    if by_style:
        summary["format_bias"] = by_style
    if flipped:
        summary["format_bias_max_flipped"] = max(flipped)
    return summary


def _reformatted_rows(
    preferences: Sequence[Preference], chat: ChatFormat, max_length: int, seed: int
) -> list[list[TokenizedExample]]:
    """For each label: the better answer, the worse one, and the worse one in every style."""
    clear = [
        (preference.comparison, preference.p_first)
        for preference in preferences
        if preference.p_first is not None and not is_near_tie(preference.p_first)
    ]
    rows: list[list[TokenizedExample]] = []
    for comparison, p_first in shuffled(clear, seed, "worn"):
        ordered = comparison if p_first > 0.5 else comparison.swap()
        styled = [reformat(ordered.second) for reformat in STYLES.values()]
        texts = [ordered.first, ordered.second, *styled]
        examples = [tokenize(chat, ordered.prompt, text, max_length) for text in texts]
        fitting = [example for example in examples if example is not None]
        if len(fitting) == len(texts):
            rows.append(fitting)
        if len(rows) == MAX_PAIRS:
            break
    return rows
