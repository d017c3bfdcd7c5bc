"""How two runs behave differently: on the same prompts, drafts and comparisons.

No model is asked. Differences are paired by conversation, as in :mod:`cai.evaluate.intervals`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cai.evaluate.gold import ATTRIBUTE_PREFIX, GoldMetrics
from cai.evaluate.intervals import (
    Clusters,
    Estimate,
    clustered_estimate,
    clustered_share,
    conversation,
    paired_difference,
)
from cai.evaluate.policies import RESPONDED
from cai.keys import digest
from cai.records import Preference, Revision, Sample

UNUSABLE, WORDS = "unusable", "words"
"""The metrics that need no gold function: share of answers that cannot be used, and length."""
Measure = tuple[str, str]
"""A metric and the set of prompts that it was measured on."""


class Difference(NamedTuple):
    """A metric of one policy in two runs.

    Attributes:
        policy: The policy.
        metric: The metric: a flag of the gold function, ``words`` or ``unusable``.
        prompt_set: The set of prompts.
        one: Its value in the one run; None if it was not measured.
        other: Its value in the other run, or None.
        difference: By how much the other run's value exceeds that of the one, on the conversations
            that both answered; None if there are none.
    """

    policy: str
    metric: str
    prompt_set: str
    one: Estimate | None
    other: Estimate | None
    difference: Estimate | None = None

    @property
    def title(self) -> str:
        """The metric and the set of prompts in words."""
        words = self.prompt_set.removeprefix("eval_").replace("_", "-")
        return ", ".join(filter(None, (self.metric.replace("_", " "), words)))

    @property
    def is_share(self) -> bool:
        """Whether the values are shares, from 0 to 1."""
        return self.metric != WORDS

    @property
    def is_clear(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        found = self.difference
        return found is not None and found.low is not None and found.low * (found.high or 0) > 0


class Overlap(NamedTuple):
    """Records that two runs made of the same thing.

    Attributes:
        what: ``revisions`` of the same draft, or ``labels`` of the same comparison.
        one: Number of such records in the one run.
        other: Number in the other run.
        changed: Share of those in both that come out differently: another final answer, or the
            other answer preferred. None if there are none in both.
    """

    what: str
    one: int
    other: int
    changed: Estimate | None


def policy_answers(samples: Sequence[Sample], policies: Sequence[str]) -> dict[str, list[Sample]]:
    """Tell the answers of the stage ``evaluate`` apart by policy.

    Args:
        samples: All answers, one policy after the other.
        policies: The policies in the same order.

    Returns:
        The answers of each policy; nothing if these are not the policies that answered.
    """
    size, rest = divmod(len(samples), max(len(policies), 1))
    if rest:
        return {}
    return {name: list(samples[i * size : (i + 1) * size]) for i, name in enumerate(policies)}


def measure(answers: Iterable[Sample], gold: GoldMetrics | None) -> dict[Measure, Clusters]:
    """Measure every answer, by metric and set of prompts.

    Args:
        answers: The answers of one policy.
        gold: The gold metrics, whose flags are measured; None: none.

    Returns:
        The values of each conversation.
    """
    found: dict[Measure, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        cluster, prompt_set = conversation(answer.prompt), answer.prompt.kind
        found[UNUSABLE, prompt_set][cluster].append(float(answer.status != "ok"))
        if answer.status not in RESPONDED:
            continue
        found[WORDS, prompt_set][cluster].append(float(len(answer.response.split())))
        flags = gold(answer.prompt, answer.response) if gold else {}
        for flag, value in flags.items():
            if not flag.startswith(ATTRIBUTE_PREFIX):
                found[flag, prompt_set][cluster].append(float(value))
    return {name: dict(clusters) for name, clusters in found.items()}


def compare_answers(
    one: Mapping[str, Sequence[Sample]],
    other: Mapping[str, Sequence[Sample]],
    gold: GoldMetrics | None,
) -> list[Difference]:
    """Compare each policy that two runs have, by its answers to held-out prompts.

    Args:
        one: The answers of the one run by policy.
        other: Those of the other run.
        gold: The gold metrics of both runs; None: none, or not the same.

    Returns:
        One row for each policy, set of prompts and metric; ``unusable`` only where there are such.
    """
    rows = []
    for policy in (name for name in one if name in other):
        before, after = measure(one[policy], gold), measure(other[policy], gold)
        for name in sorted({*before, *after}, key=_place):
            values = before.get(name, {}), after.get(name, {})
            if name[0] == UNUSABLE and not any(map(_is_any, values)):
                continue
            first, second = (clustered_estimate(v) if v else None for v in values)
            difference = paired_difference(values[1], values[0])
            rows.append(Difference(policy, *name, first, second, difference))
    return rows


def _place(name: Measure) -> tuple[str, bool, str]:
    """Sort by set of prompts, with the flags first."""
    return name[1], name[0] in (UNUSABLE, WORDS), name[0]


def _is_any(clusters: Clusters) -> bool:
    return any(map(any, clusters.values()))


def compare_revisions(one: Iterable[Revision], other: Iterable[Revision]) -> Overlap:
    """Compare what two runs made of the same drafts.

    Args:
        one: The revisions of the one run.
        other: Those of the other run.
    """
    before, after = (
        {
            digest([r.sample.prompt.id, r.sample.response]): (
                digest(r.final),
                digest(conversation(r.sample.prompt)),
            )
            for r in revisions
        }
        for revisions in (one, other)
    )
    shared = [(before[name], after[name]) for name in before if name in after]
    pairs = [(float(a != b), cluster) for (a, cluster), (b, _) in shared]
    return Overlap("revisions", len(before), len(after), _share(pairs))


def compare_labels(one: Iterable[Preference], other: Iterable[Preference]) -> Overlap:
    """Compare how two runs judged the same comparisons, in either order of the answers.

    Args:
        one: The labels of the one run; those without a verdict are left out.
        other: Those of the other run.
    """
    before, after = _verdicts(one), _verdicts(other)
    pairs = []
    for name, verdict in after.items():
        if name in before:
            known = before[name].p_first
        elif verdict.swapped in before:
            known = 1 - before[verdict.swapped].p_first
        else:
            continue
        flips = float((known - 0.5) * (verdict.p_first - 0.5) < 0)
        pairs.append((flips, verdict.cluster))
    return Overlap("labels", len(before), len(after), _share(pairs))


class _Verdict(NamedTuple):
    """What is kept of a label: digests, not texts, for there may be many.

    Attributes:
        swapped: Id of the comparison with its answers in the other order.
        p_first: The label.
        cluster: Its conversation.
    """

    swapped: str
    p_first: float
    cluster: str


def _verdicts(labels: Iterable[Preference]) -> dict[str, _Verdict]:
    """The comparisons that have a label, each once, by their ids."""
    found = {}
    for label in labels:
        pair = label.comparison
        if label.p_first is not None:
            cluster = digest(conversation(pair.prompt))
            found[pair.id] = _Verdict(pair.swap().id, label.p_first, cluster)
    return found


def _share(pairs: Sequence[tuple[float, str]]) -> Estimate | None:
    if not pairs:
        return None
    return clustered_share([value for value, _ in pairs], [cluster for _, cluster in pairs])
