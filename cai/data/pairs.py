"""Read pairs of answers to be judged, with the labels that they already have, if any.

These rows are all read as the same pair; the last three have a label for the first answer::

    {"prompt": "Hello", "first": "Hi!", "second": "No."}
    {"prompt": "Hello", "response_a": "Hi!", "response_b": "No."}
    {"instruction": "Hello", "output_1": "Hi!", "output_2": "No.", "label": 1}
    {"prompt": "Hello", "model_a": "Hi!", "model_b": "No.", "winner": "model_a"}
    {"question": "Hello", "response_A": "Hi!", "response_B": "No.", "label": "A>B"}

The answers keep their order. A row that names no order, such as ``chosen`` and ``rejected``, is
shown in an order that is drawn, so that a judge gains nothing from the place of an answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ValidationError

from cai.data.answers import is_sample
from cai.data.formats import FORMATS
from cai.data.pair_columns import (
    SUBSET_COLUMNS,
    LeftOut,
    answer_columns,
    comparison_of,
    subsets_of,
)
from cai.data.pair_labels import Codes, majority, votes_of
from cai.data.preferences import read_preferences
from cai.data.published import in_known_columns
from cai.data.row_formats import format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, summarized
from cai.files import StrPath
from cai.keys import digest, uniform
from cai.records import Comparison, Preference, Sample

SOURCE = "gold"
PREFERRED_MODELS = ("chosen_model", "rejected_model")
"""Columns with the models that wrote the better and the worse answer."""


@dataclass
class PairFile:
    """What a file of pairs holds.

    Attributes:
        comparisons: The pairs.
        gold: The labels that the file has; pairs without one are not among them. Where several
            annotators labeled a pair, it is what most of them say.
        samples: Answers by the model that wrote them, for a file of answers: they have no pairs.
        skipped: Number of rows that were left out, by reason.
        votes: What each annotator says about a pair, by the pair's id, where there are several:
            the probability that the first answer is the better one.
        subsets: What kind of pair it is, by the pair's id and by the column that says so.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    gold: list[Preference] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    votes: dict[str, dict[str, float]] = field(default_factory=dict)
    subsets: dict[str, dict[str, str]] = field(default_factory=dict)


class Reading(NamedTuple):
    """How the rows of a file are read.

    Attributes:
        gold: The column with the labels; empty: the first that has a usual name.
        codes: What labels mean, such as ``{"0": 0.5}`` for a tie; others name an answer.
        subset: One more column that says what kind of pair a row is.
    """

    gold: str = ""
    codes: Codes | None = None
    subset: str = ""


def read_pairs(
    path: StrPath, gold: str = "", *, codes: Codes | None = None, subset: str = ""
) -> PairFile:
    """Read pairs of answers, each once.

    Args:
        path: A table of pairs, in one of the formats of preferences or as above; records of
            ``cai judge`` or of ``cai sample``.
        gold: The column with the labels; empty: the first that has a usual name.
        codes: What some labels mean: the probability that the first answer is the better one.
        subset: One more column that says what kind of pair a row is.

    Raises:
        InputError: For each row that cannot be read, or for a file without pairs.
    """
    problems: list[Problem] = []
    reader = _Reader(Reading(gold, codes, subset))
    file = reader.file
    for place, row in collect_rows(path, problems):
        try:
            row = in_known_columns(row)
            if not reader.known and not file.samples and not problems and _is_preference(row, gold):
                return _preferences(path, subset)
            reader.add(row)
        except LeftOut as error:
            file.skipped[str(error)] += 1
        except (ValueError, ValidationError) as error:
            problems.append(Problem(place, _explain(error)))
    if not problems and not file.comparisons and not file.samples:
        reasons = f": {', '.join(file.skipped)}" if file.skipped else ""
        problems.append(Problem(str(path), f"has no pairs of answers{reasons}"))
    if problems:
        raise InputError(summarized(problems))
    reader.finish()
    return file


def _is_preference(row: Row, gold: str) -> bool:
    """Whether a file has rows in which only the order of preference is known."""
    return not gold and answer_columns(row) is None and bool(format_of(row, FORMATS))


def _preferences(path: StrPath, subset: str) -> PairFile:
    """Read pairs whose better answer is known, in an order that does not tell which it is."""
    columns = (*SUBSET_COLUMNS, *PREFERRED_MODELS, *([subset] if subset else []))
    read = read_preferences(path, columns=columns)
    file = PairFile(skipped=Counter(read.counts))
    for preference in read.preferences:
        values = read.columns.get(preference.comparison.id, {})
        shown = _by_model(preference, values)
        if uniform("pair order", preference.comparison.id) < 0.5:
            shown = shown.swap()
        file.comparisons.append(shown.comparison)
        file.gold.append(shown)
        if subsets := subsets_of(values, subset):
            file.subsets[shown.comparison.id] = subsets
    if not file.gold:
        raise InputError([Problem(str(path), "has no pairs of answers")])
    return file


def _by_model(preference: Preference, values: Row) -> Preference:
    """Add the names of the models that wrote the better and the worse answer, if they are known."""
    names = [str(values[column]) for column in PREFERRED_MODELS if values.get(column)]
    if len(names) < 2:
        return preference
    pair = preference.comparison.model_copy(update={"origins": tuple(names)})
    return preference.model_copy(update={"comparison": pair})


class _Reader:
    """Collects the rows of a file of pairs.

    Attributes:
        file: What was read.
        known: Whether anything was.
    """

    def __init__(self, reading: Reading) -> None:
        self.file = PairFile()
        self._reading = reading
        self._pairs: dict[str, Comparison] = {}
        self._votes: dict[str, dict[str, float]] = {}

    @property
    def known(self) -> bool:
        """Whether any pair was read."""
        return bool(self._pairs)

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            ValueError: If it is no pair or answer, or its label names neither answer.
            LeftOut: If it is no pair, and no mistake either.
        """
        if is_sample(row):
            sample = Sample.model_validate(row)
            self.file.samples.setdefault(sample.provenance.model, []).append(sample)
            return
        comparison, votes = _record(row) if _is_record(row) else _pair(row, self._reading)
        if any(name and comparison.swap().id in self._pairs for name in votes):
            # annotators may see the same pair in either order
            comparison, votes = comparison.swap(), {name: 1 - p for name, p in votes.items()}
        if comparison.id not in self._pairs:
            self._pairs[comparison.id] = comparison
            self.file.comparisons.append(comparison)
            if subsets := subsets_of(row, self._reading.subset):
                self.file.subsets[comparison.id] = subsets
        elif not any(votes) or set(votes) <= set(self._votes.get(comparison.id, ())):
            self.file.skipped["duplicate"] += 1
            return
        self._votes.setdefault(comparison.id, {}).update(votes)

    def finish(self) -> None:
        """Make the labels of what the annotators say."""
        for comparison in self.file.comparisons:
            votes = self._votes.get(comparison.id)
            if not votes:
                continue
            label = majority(list(votes.values()))
            self.file.gold.append(
                Preference(
                    id=digest([comparison.id, SOURCE, label]),
                    comparison=comparison,
                    p_first=label,
                    source=SOURCE,
                )
            )
            if len(votes) > 1:
                self.file.votes[comparison.id] = votes


def _is_record(row: Row) -> bool:
    return isinstance(row.get("comparison"), dict)


def _record(row: Row) -> tuple[Comparison, dict[str, float]]:
    """Read a preference that ``cai`` wrote; what a judge says is no label."""
    comparison = Comparison.model_validate(row["comparison"])
    if row.get("source") == "ai" or row.get("p_first") is None:
        return comparison, {}
    return comparison, {"": Preference.model_validate(row).p_first or 0.0}


def _pair(row: Row, reading: Reading) -> tuple[Comparison, dict[str, float]]:
    names = answer_columns(row)
    if names is None:
        raise ValueError(
            f"has no two answers; columns: {', '.join(row)}; name them first and second"
        )
    votes = votes_of(row, names, reading.gold, reading.codes)
    return comparison_of(row, names), votes


def _explain(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"is not a record: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    return str(error)
