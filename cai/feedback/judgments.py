"""From the responses of a judge to a :class:`~cai.records.Judgment` with its evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cai.backends.protocol import (
    FinishReason,
    GenerateRequest,
    OptionLogprobs,
    Request,
    Response,
)
from cai.constitution.schema import Principle
from cai.feedback.verdict_words import SHIPPED, Languages
from cai.feedback.verdicts import verdict
from cai.records import Judgment, Status, worst

_STATUSES: dict[FinishReason, Status] = {
    "stop": "ok",
    "length": "truncated",
    "too_long": "too_long",
    "filtered": "filtered",
    "failed": "failed",
}
MAX_REASONS = 3
"""Number of different failures that a judgment's reason lists."""


MIN_OPTION_MASS = 0.05
"""Probability on all options together from which on they are read, unless the settings say
otherwise."""


class Reading(NamedTuple):
    """How a judge's responses are read.

    Attributes:
        min_mass: Probability that all options together must have.
        languages: Words of the languages in which verdicts are read.
    """

    min_mass: float = MIN_OPTION_MASS
    languages: Languages = SHIPPED


DEFAULT_READING = Reading()


def option_probability(
    response: Response, option: int, min_mass: float = MIN_OPTION_MASS
) -> float | None:
    """Return the probability of one option among those offered.

    Args:
        response: The response to a log-likelihood request.
        option: Index of the option.
        min_mass: Probability that all options together must have; what a model hardly ever says
            shows nothing of what it would choose.

    Returns:
        The probability; None if the response failed or the options have too little probability.
    """
    mass = option_mass(response)
    if mass is None or mass < min_mass or not mass:
        return None
    assert isinstance(response, OptionLogprobs)
    highest = max(response.logprobs)
    if math.isinf(highest):
        return None
    likelihoods = [math.exp(logprob - highest) for logprob in response.logprobs]
    return likelihoods[option] / sum(likelihoods)


def option_mass(response: Response) -> float | None:
    """Return the probability that a model's answer begins with any of the options.

    Args:
        response: The response to a request.

    Returns:
        A number from 0 to 1, 0 if the server's likeliest tokens begin none of them; None if the
        response failed or was no choice of options.
    """
    if not isinstance(response, OptionLogprobs) or response.finish_reason != "stop":
        return None
    if any(math.isnan(logprob) for logprob in response.logprobs):
        return 0.0
    return min(1.0, sum(math.exp(min(logprob, 0.0)) for logprob in response.logprobs))


def build_judgment(
    method: str,
    principle: Principle,
    requests: Sequence[Request],
    responses: Sequence[Response],
    p_first: float | None,
    *,
    evidence: Mapping[str, float] | None = None,
    text: str = "",
    reading: Reading = DEFAULT_READING,
) -> Judgment:
    """Return a judgment with what is needed to look into it later.

    Args:
        method: Name of the judge method.
        principle: The principle that was applied.
        requests: What the judge was asked.
        responses: What it answered.
        p_first: Probability that the first answer is better; None makes the judgment ``unscored``.
        evidence: The numbers behind ``p_first``, by name.
        text: The text that the judge wrote.
        reading: How the responses were read.
    """
    sampled = [request for request in requests if isinstance(request, GenerateRequest)]
    tokens_in = sum(response.tokens_in for response in responses)
    tokens_out = sum(response.tokens_out for response in responses)
    return Judgment(
        principle=principle.id,
        principle_hash=principle.hash,
        method=method,
        p_first=p_first,
        status="ok" if p_first is not None else status_without_verdict(responses),
        reason=failure_summary(requests, responses, reading),
        fallback=fallback_summary(responses),
        evidence=dict(evidence or {}),
        option_mass=tuple(mass for r in responses if (mass := option_mass(r)) is not None),
        text=text,
        seeds=tuple(request.seed for request in sampled),
        temperature=sampled[0].temperature if sampled else None,
        tokens=(tokens_in, tokens_out),
    )


def status_without_verdict(responses: Sequence[Response]) -> Status:
    """Return why responses give no verdict: the worst of what happened to them.

    Args:
        responses: What a judge answered.
    """
    statuses = [_STATUSES[response.finish_reason] for response in responses]
    return worst(["unscored", *statuses])


def fallback_summary(responses: Sequence[Response]) -> str:
    """Summarize what a judge's probabilities were read from instead of what was asked for.

    Args:
        responses: What the judge answered.

    Returns:
        A text such as ``"8 of 8 votes instead of log-probabilities"``; empty if there was nothing
        of the kind.
    """
    fallbacks = [r.fallback for r in responses if isinstance(r, OptionLogprobs) and r.fallback]
    return "; ".join(dict.fromkeys(fallbacks))


def failure_summary(
    requests: Sequence[Request], responses: Sequence[Response], reading: Reading = DEFAULT_READING
) -> str:
    """Summarize what went wrong with a judge's responses, most frequent first.

    Args:
        requests: What the judge was asked.
        responses: What it answered.
        reading: How it was read.

    Returns:
        A text such as ``"1 of 6 answers failed (timeout)"``; empty if nothing went wrong.
    """
    failures = Counter[str]()
    for request, response in zip(requests, responses, strict=True):
        failure = _failure(request, response, reading)
        if failure:
            failures[failure] += 1
    return "; ".join(
        f"{count} of {len(responses)} answers {failure}"
        for failure, count in failures.most_common(MAX_REASONS)
    )


def _failure(request: Request, response: Response, reading: Reading) -> str:
    """Return what went wrong with one response; empty if nothing did."""
    if response.finish_reason == "length":
        limit = f"max_tokens={request.max_tokens}" if isinstance(request, GenerateRequest) else ""
        reason = response.reason or f"cut at {limit}"
        return f"truncated ({reason})"
    if response.finish_reason != "stop":
        kind = response.finish_reason.replace("_", " ")
        return f"{kind} ({response.reason})" if response.reason else kind
    if isinstance(response, OptionLogprobs):
        mass = option_mass(response) or 0.0
        if mass and mass >= reading.min_mass:
            return ""
        few = f"with less than {reading.min_mass:.0%} of the probability on the options"
        return few if mass else "without a probability for any of the options"
    text = request.answer_prefix + response.text
    return "" if verdict(text, reading.languages) else "without a verdict"
