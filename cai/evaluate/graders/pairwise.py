"""The grader ``pairwise``: the answers of each two models to the same prompts are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from cai.config.suite import Pairwise, Suite
from cai.evaluate.graders.pair_verdicts import Verdict, judge_of, verdicts_of
from cai.evaluate.grades import Answer, Grade, Grading
from cai.evaluate.intervals import conversation
from cai.evaluate.pairwise import Duel, pairwise_results
from cai.evaluate.win_rates import is_equal
from cai.keys import digest
from cai.records import Comparison
from cai.words import words

GOLD = ("labels", "function")
"""Who can say what is true, the first that is given."""
UNLIKE = "the conversations before the two answers differ"


class _Pair(NamedTuple):
    """An answer of a model, and one of another model to the same case."""

    answer: Answer
    other: Answer

    @property
    def comparison(self) -> Comparison:
        """The pair as a judge sees it."""
        first, second = self.answer.sample, self.other.sample
        origins = (self.answer.model, self.other.model)
        return Comparison.of(first.prompt, first.response, second.response, origins)


def grade(settings: Pairwise, grading: Grading) -> Iterator[Grade]:
    """Grade each answer 1 that is better than the other model's, 0 if it is worse, a tie one half.

    Every comparison is two grades, one for each side. Equal answers are ties of which nobody is
    asked.
    """
    pairs = list(_pairs(grading))
    comparisons = [pair.comparison for pair in pairs if _comparable(pair)]
    different = [comparison for comparison in comparisons if not is_equal(comparison)]
    verdicts = iter(verdicts_of(settings.by, different, settings, grading))
    true = iter(_gold(settings, different, grading))
    for pair in pairs:
        if not _comparable(pair):
            verdict, gold = Verdict(None, reason=UNLIKE), None
        elif is_equal(pair.comparison):
            verdict, gold = Verdict(0.5, evidence={"equal": True}), None
        else:
            verdict, gold = next(verdicts), next(true)
        yield _grade(pair, verdict, gold, settings, grading)
        swapped = _Pair(pair.other, pair.answer)
        yield _grade(swapped, verdict.swap(), _complement(gold), settings, grading)


def _pairs(grading: Grading) -> Iterator[_Pair]:
    """The answers of each two models with the same number to the same case; the later one first."""
    by_place = {
        model: {(answer.case.id, answer.sample.draw): answer for answer in answers}
        for model, answers in grading.answers.items()
    }
    for baseline, model in combinations(by_place, 2):
        for place, answer in by_place[model].items():
            other = by_place[baseline].get(place)
            if other is not None:
                yield _Pair(answer, other)


def _comparable(pair: _Pair) -> bool:
    return pair.answer.sample.prompt.id == pair.other.sample.prompt.id


def _gold(
    settings: Pairwise, comparisons: Sequence[Comparison], grading: Grading
) -> list[float | None]:
    """What is true of each comparison, where that is known."""
    given = (name for name in GOLD if getattr(settings, name) and name != settings.by)
    name = next(given, None)
    if name is None:
        return [None] * len(comparisons)
    return [verdict.win for verdict in verdicts_of(name, comparisons, settings, grading)]


def _complement(win: float | None) -> float | None:
    return None if win is None else 1 - win


def _grade(
    pair: _Pair, verdict: Verdict, gold: float | None, settings: Pairwise, grading: Grading
) -> Grade:
    answer, other = pair
    longer_by = len(words(answer.sample.response)) - len(words(other.sample.response))
    evidence: dict[str, Any] = {"against": other.model, "longer_by": longer_by}
    if gold is not None:
        evidence["gold"] = gold
    made = grading.grade(
        answer,
        verdict.win,
        status=verdict.status,
        reason=verdict.reason,
        evidence=evidence | dict(verdict.evidence),
        judge=judge_of(settings, grading),
    )
    return made.model_copy(update={"id": digest([made.id, other.model])})


def more(_suite: Suite, grades: Sequence[Grade]) -> Mapping[str, Any]:
    """Return the comparison of the models, from all grades of a suite."""
    models = list(dict.fromkeys(grade.model for grade in grades))
    return {"pairwise": pairwise_results(_duels(grades, models), models)}


def _duels(grades: Iterable[Grade], models: Sequence[str]) -> Iterator[Duel]:
    """Each comparison once, from the side of the model that comes later."""
    place = {name: i for i, name in enumerate(models)}
    for graded in grades:
        evidence = graded.evidence
        against = evidence.get("against")
        if against is None or place[graded.model] < place[against]:
            continue
        yield Duel(
            graded.model,
            against,
            graded.value,
            conversation(graded.prompt),
            longer_by=evidence["longer_by"],
            gold=evidence.get("gold"),
            equal=bool(evidence.get("equal")),
        )
