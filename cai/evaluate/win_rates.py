"""Win rates: how often one model's answers are preferred to another's; a tie is half a win."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from cai.evaluate.bradley_terry import Outcome
from cai.evaluate.intervals import Estimate, clustered_share, conversation
from cai.evaluate.policies import RESPONDED
from cai.keys import digest
from cai.records import Comparison, Preference, Sample
from cai.ties import is_near_tie

EQUAL = "equal answers"
"""The source of labels of two equal answers."""


def win_of(p_first: float) -> float:
    """Return the win that a label is worth to the first answer: 1, 0, or one half for a tie.

    Args:
        p_first: Probability that the first answer is better, the mean of both orders.
    """
    return 0.5 if is_near_tie(p_first) else float(p_first > 0.5)


def answer_pairs(answers: Sequence[Sample], baseline: Sequence[Sample]) -> list[Comparison]:
    """Pair the answers of two policies to the same prompts.

    Args:
        answers: The answers of one policy.
        baseline: The answers of the other one, in the same order of prompts.

    Returns:
        The pairs of answers that the policies gave themselves, equal ones included.
    """
    return [
        Comparison.of(answer.prompt, answer.response, other.response)
        for answer, other in zip(answers, baseline, strict=True)
        if answer.status in RESPONDED and other.status in RESPONDED
    ]


def label_pairs(
    pairs: Sequence[Comparison], label: Callable[[Sequence[Comparison]], Iterable[Preference]]
) -> list[Preference]:
    """Label pairs of answers; two equal ones are a tie, of which nobody is asked.

    Args:
        pairs: The pairs.
        label: Labels those that differ.

    Returns:
        The labels in the order of the pairs.
    """
    labels = iter(label([pair for pair in pairs if not is_equal(pair)]))
    return [_tie(pair) if is_equal(pair) else next(labels) for pair in pairs]


def is_equal(pair: Comparison) -> bool:
    """Return whether both answers are the same text.

    Args:
        pair: The two answers.
    """
    return pair.first.strip() == pair.second.strip()


def _tie(pair: Comparison) -> Preference:
    name = digest([pair.id, EQUAL])
    return Preference(id=name, comparison=pair, p_first=0.5, source=EQUAL)


def win_rate(preferences: Iterable[Preference]) -> Estimate | None:
    """Measure how often the first answer is preferred; a near tie is half a win.

    Args:
        preferences: Labels of pairs of one model's answers, first, and another's.

    Returns:
        The estimate; None if no label could be read.
    """
    read = [(p.p_first, p.comparison.prompt) for p in preferences if p.p_first is not None]
    if not read:
        return None
    wins = [win_of(p_first) for p_first, _ in read]
    return clustered_share(wins, [conversation(prompt) for _, prompt in read])


def outcomes(preferences: Iterable[Preference]) -> list[Outcome]:
    """Return what labels say of two different models; those without a label are left out.

    Args:
        preferences: Labels of pairs with origins.
    """
    return [
        Outcome(*p.comparison.origins, win_of(p.p_first), conversation(p.comparison.prompt))
        for p in preferences
        if p.p_first is not None
        and all(p.comparison.origins)
        and len(set(p.comparison.origins)) == 2
    ]


def win_rates(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Estimate]:
    """Estimate how often one model wins over another, for each two that were compared.

    Args:
        outcomes: The comparisons.

    Returns:
        The win rate of the first over the second model, by their names in alphabetical order.
    """
    by_pair: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.first < outcome.second:
            by_pair[outcome.first, outcome.second].append((outcome.win, outcome.cluster))
        else:
            by_pair[outcome.second, outcome.first].append((1 - outcome.win, outcome.cluster))
    return {
        pair: clustered_share([win for win, _ in wins], [cluster for _, cluster in wins])
        for pair, wins in sorted(by_pair.items())
    }
