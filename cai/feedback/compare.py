"""``compare``: responses in, pairs of different responses to one prompt out.

Example:
    >>> from cai import Prompt, ResponseCache, compare, sample
    >>> from cai.backends.scripted import ScriptedBackend
    >>> def reply(messages, seed):  # stands in for a model
    ...     return f"Take the {'bus' if seed % 2 else 'train'}."
    >>> model = ResponseCache(":memory:").cached_model(ScriptedBackend(reply))
    >>> (pair,) = compare({"policy": sample([Prompt.of("How do I get to Rome?")], model, n=4)})
    >>> sorted([pair.first, pair.second]), pair.origins
    (['Take the bus.', 'Take the train.'], ('policy', 'policy'))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from cai.arguments import check_count, check_records
from cai.errors import ArgumentError
from cai.keys import shuffled, uniform
from cai.records import Comparison, Sample

USABLE = ("ok", "truncated")
"""The statuses of samples that are paired, if they have a text."""


class _Answer(NamedTuple):
    origin: str
    sample: Sample


def compare(
    samples: Mapping[str, Sequence[Sample]], *, seed: int = 0, pairs_per_prompt: int = 1
) -> list[Comparison]:
    """Pair different answers to the same prompt.

    Which pairs are taken, and which answer comes first, depends on the seed and the prompt only.
    Two answers with the same text are never paired.

    Args:
        samples: The answers of each model, by the model's name.
        seed: Random seed.
        pairs_per_prompt: Maximum number of pairs for each prompt.

    Returns:
        The pairs, by prompt, with the names of the models as their origins.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    if not isinstance(samples, Mapping):
        actual = type(samples).__name__
        raise ArgumentError(
            "samples", f"must map names of models to lists of Sample records, not {actual}"
        )
    for origin, own in samples.items():
        check_records(f"samples[{origin!r}]", own, Sample)
    check_count("pairs_per_prompt", pairs_per_prompt)
    comparisons = []
    for prompt_id, answers in _by_prompt(samples).items():
        pairs = [pair for pair in combinations(answers, 2) if _differ(*pair)]
        for first, second in shuffled(pairs, seed, "pairs", prompt_id)[:pairs_per_prompt]:
            comparisons.append(_comparison(first, second, seed))
    return comparisons


def _by_prompt(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[_Answer]]:
    answers: dict[str, list[_Answer]] = defaultdict(list)
    for origin, own in samples.items():
        for sample in own:
            if sample.status in USABLE and sample.response.strip():
                answers[sample.prompt.id].append(_Answer(origin, sample))
    return answers


def _differ(first: _Answer, second: _Answer) -> bool:
    return first.sample.response.strip() != second.sample.response.strip()


def _comparison(first: _Answer, second: _Answer, seed: int) -> Comparison:
    comparison = Comparison.of(
        first.sample.prompt,
        first.sample.response,
        second.sample.response,
        (first.origin, second.origin),
    )
    return comparison.swap() if uniform(seed, "order", comparison.id) < 0.5 else comparison
