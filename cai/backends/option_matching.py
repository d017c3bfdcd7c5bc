"""Estimate the probabilities of options from what a server sends.

A server does not score given texts. It sends the likeliest first tokens of an answer with their
log-probabilities, or only answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

VERDICT_PREFIXES = "(*_\"'`[ "
"""Characters that models like to write before a verdict; they are ignored."""
_WORD_STARTS = ("Ġ", "▁")
"""How byte-level and SentencePiece tokenizers spell the space before a word."""


def logprobs_from_first_token(
    options: Sequence[str], first_token: Mapping[str, float]
) -> tuple[float, ...]:
    """Sum, for each option, the probabilities of the first tokens that fit it and no other option.

    Args:
        options: The options.
        first_token: Log-probabilities of the likeliest first tokens.

    Returns:
        The log-probability of each option: ``-inf`` for an option that no token fits, NaN for all
        of them if no token fits any.
    """
    options = [option.strip() for option in options]
    totals = [0.0] * len(options)
    for token, logprob in first_token.items():
        for word_start in _WORD_STARTS:
            token = token.replace(word_start, " ")
        start = token.strip().lstrip(VERDICT_PREFIXES)
        if not start:
            continue
        fitting = [
            index
            for index, option in enumerate(options)
            if option.startswith(start) or _begins_with(start, option)
        ]
        if len(fitting) == 1:
            totals[fitting[0]] += math.exp(min(logprob, 0.0))
    return _logs(totals, 1.0)


def logprobs_from_votes(options: Sequence[str], texts: Sequence[str]) -> tuple[float, ...]:
    """Count, for each option, the sampled answers that begin with it.

    Args:
        options: The options.
        texts: The sampled answers.

    Returns:
        The logarithm of each option's share of the answers: ``-inf`` for an option that none begins
        with, NaN for all of them if no answer begins with any.
    """
    options = [option.strip() for option in options]
    # the longest option first, since one option may begin with another
    by_length = sorted(range(len(options)), key=lambda index: -len(options[index]))
    counts = [0.0] * len(options)
    for text in texts:
        start = text.strip().lstrip(VERDICT_PREFIXES)
        for index in by_length:
            if _begins_with(start, options[index]):
                counts[index] += 1
                break
    return _logs(counts, len(texts))


def _logs(amounts: Sequence[float], total: float) -> tuple[float, ...]:
    if not any(amounts):
        return (math.nan,) * len(amounts)
    return tuple(math.log(amount / total) if amount else -math.inf for amount in amounts)


def _begins_with(text: str, option: str) -> bool:
    """Return whether a text begins with an option as a whole word: "A." does, "And" does not."""
    return text.startswith(option) and not text[len(option) : len(option) + 1].isalnum()
