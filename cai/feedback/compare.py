"""``compare``: answers in, pairs of answers out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from cai.arguments import check_count, check_records
from cai.errors import ArgumentError
from cai.keys import shuffled, uniform
from cai.records import Comparison, Sample


def compare(
    samples: Mapping[str, Sequence[Sample]], *, seed: int = 0, pairs_per_prompt: int = 1
) -> list[Comparison]:
    """Up to ``pairs_per_prompt`` pairs of different answers to each prompt.

    ``samples`` maps the name of a model (the origin) to its answers. Pairs of two equal texts are never made; which pairs
    are taken, and which answer stands first, is keyed by the prompt.

    Raises:
        ArgumentError: naming the argument that cannot be used.
    """
    if not isinstance(samples, Mapping):
        raise ArgumentError(
            "samples",
            f"must map names of models to lists of Sample records, not {type(samples).__name__}",
        )
    for origin, made in samples.items():
        check_records(f"samples[{origin!r}]", made, Sample)
    check_count("pairs_per_prompt", pairs_per_prompt)
    answers: dict[str, list[tuple[str, Sample]]] = defaultdict(list)
    for origin, made in samples.items():
        for sample in made:
            if sample.status in ("ok", "truncated"):
                answers[sample.prompt.id].append((origin, sample))
    comparisons = []
    for prompt_id, found in answers.items():
        pairs = [
            pair
            for pair in combinations(found, 2)
            if pair[0][1].response.strip() != pair[1][1].response.strip()
        ]
        for (one, first), (other, second) in shuffled(pairs, seed, "pairs", prompt_id)[
            :pairs_per_prompt
        ]:
            comparison = Comparison.of(first.prompt, first.response, second.response, (one, other))
            comparisons.append(
                comparison.swap() if uniform(seed, "order", comparison.id) < 0.5 else comparison
            )
    return comparisons
