"""Agreement of several judges with each other, from the records of their labels alone.

Each judge gives one verdict on a comparison: for the first answer, for the second, or undecided,
which lies half-way. Cohen's kappa compares two judges, Krippendorff's alpha all of them. Both give
half of a disagreement to an undecided verdict (linear weights for kappa, the interval metric on
0, 1/2, 1 for alpha); without undecided verdicts they are the usual nominal ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from cai.evaluate.audit import option_mass
from cai.evaluate.statistics import mean, proportion
from cai.feedback.panel import by_judge
from cai.records import Judgment, Preference
from cai.ties import is_near_tie, vote

Unit = Mapping[str, float]
"""The verdicts on one comparison by one principle, by judge: 1, 0, or one half if undecided."""


def judge_agreement(
    preferences: Iterable[Preference], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Measure how well the judges of some labels agree, on each comparison and principle.

    Args:
        preferences: The labels with the judgments of all judges.
        names: Names of the judges by fingerprint; a judge without one is named by its fingerprint.

    Returns:
        Nothing for labels of a single judge. Otherwise ``alpha``, left out where it is not defined;
        for each of ``pairs`` the names of two ``judges``, their ``agreement`` and ``kappa``; and
        ``by_judge`` what :func:`of_one_judge` measures.
    """
    judgments: dict[str, list[Judgment]] = defaultdict(list)
    sides: dict[str, list[bool]] = defaultdict(list)
    units: list[Unit] = []
    for preference in preferences:
        of_label = by_judge(preference.judgments)
        for judge, own in of_label.items():
            judgments[judge] += own
            sides[judge] += _agrees(own, preference.p_first)
        units += _units(of_label)
    if len(judgments) < 2:
        return {}
    shown = {judge: (names or {}).get(judge, judge) for judge in judgments}
    alpha = krippendorff_alpha(units)
    return {
        **({"alpha": alpha} if alpha is not None else {}),
        "pairs": [
            {"judges": [shown[one], shown[other]], **pair_agreement(units, one, other)}
            for one, other in combinations(shown, 2)
        ],
        "by_judge": {
            shown[judge]: of_one_judge(own, sides[judge]) for judge, own in judgments.items()
        },
    }


def _units(of_label: Mapping[str, Sequence[Judgment]]) -> list[Unit]:
    """The verdicts on a comparison, those by one principle together."""
    units: dict[str, dict[str, float]] = defaultdict(dict)
    for judge, judgments in of_label.items():
        for judgment in judgments:
            if judgment.p_first is not None:
                units[judgment.principle][judge] = vote(judgment.p_first)
    return list(units.values())


def _agrees(judgments: Sequence[Judgment], label: float | None) -> list[bool]:
    """Whether each clear verdict is for the answer that the label prefers."""
    if label is None or vote(label) == 0.5:
        return []
    clear = [j.p_first for j in judgments if j.p_first is not None and not is_near_tie(j.p_first)]
    return [(p_first > 0.5) == (label > 0.5) for p_first in clear]


def of_one_judge(judgments: Sequence[Judgment], agrees: Sequence[bool]) -> dict[str, Any]:
    """Measure the part of one judge.

    Args:
        judgments: Its judgments.
        agrees: For each clear verdict whether it is for the answer that the label prefers.

    Returns:
        ``n`` judgments; proportions ``unscored`` of them, and ``agrees`` of the clear verdicts;
        their ``option_mass``; and ``tokens`` read and written.
    """
    unscored = sum(judgment.p_first is None for judgment in judgments)
    return {
        "n": len(judgments),
        "unscored": proportion(unscored, len(judgments)),
        "agrees": proportion(sum(agrees), len(agrees)),
        "option_mass": option_mass(judgments),
        "tokens": [sum(judgment.tokens[i] for judgment in judgments) for i in range(2)],
    }


def pair_agreement(units: Sequence[Unit], one: str, other: str) -> dict[str, Any]:
    """Measure how well two judges agree.

    Args:
        units: The verdicts.
        one: One judge.
        other: The other judge.

    Returns:
        The proportion ``agreement``, and Cohen's ``kappa``, left out where it is not defined.
    """
    cells = Counter((u[one], u[other]) for u in units if one in u and other in u)
    n = cells.total()
    same = sum(count * (1 - abs(a - b)) for (a, b), count in cells.items())
    metrics: dict[str, Any] = {"agreement": proportion(same, n)}
    if not n:
        return metrics
    firsts, seconds = Counter[float](), Counter[float]()
    for (a, b), count in cells.items():
        firsts[a] += count
        seconds[b] += count
    chance = sum(firsts[a] * seconds[b] * (1 - abs(a - b)) for a in firsts for b in seconds) / n**2
    if chance < 1:
        metrics["kappa"] = (same / n - chance) / (1 - chance)
    return metrics


def krippendorff_alpha(units: Sequence[Unit]) -> float | None:
    """Return Krippendorff's alpha: 1 for judges that always agree, 0 for agreement by chance.

    Args:
        units: The verdicts; those with fewer than two are left out.

    Returns:
        None if there is nothing to compare, or all verdicts are the same.
    """
    compared = [list(unit.values()) for unit in units if len(unit) > 1]
    values = [value for unit in compared for value in unit]
    if not values:
        return None
    observed = sum(2 * len(u) * _squares(u) / (len(u) - 1) for u in compared) / len(values)
    expected = 2 * len(values) * _squares(values) / (len(values) * (len(values) - 1))
    return 1 - observed / expected if expected else None


def _squares(values: Sequence[float]) -> float:
    """Sum of the squared distances from the mean."""
    center = mean(values)
    return sum((value - center) ** 2 for value in values)


def agreement_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Describe the agreement of several judges, a line for all and one for each pair.

    Args:
        metrics: What :func:`judge_agreement` measures; nothing for a single judge.
    """
    if not metrics:
        return []
    alpha = f"Krippendorff's alpha {metrics['alpha']:.2f}" if "alpha" in metrics else "no alpha"
    lines = [f"{len(metrics['by_judge'])} judges: {alpha}"]
    for pair in metrics["pairs"]:
        if pair["agreement"]["n"]:
            kappa = f", kappa {pair['kappa']:.2f}" if "kappa" in pair else ""
            share = f"{pair['agreement']['value']:.0%} of {pair['agreement']['n']:,} verdicts"
            lines.append(f"{' and '.join(pair['judges'])} agree on {share}{kappa}")
    return lines
