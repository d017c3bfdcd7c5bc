"""Read human preferences from files in the usual formats.

A row that cannot be used is counted by reason, with its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cai.data.formats import FORMATS
from cai.data.pair_parts import Pair
from cai.data.published import in_known_columns
from cai.data.row_formats import format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, did_you_mean, summarized
from cai.files import StrPath
from cai.keys import digest
from cai.records import Comparison, Preference

Votes = dict[object, Preference]
"""What raters say of one pair, by the rater and the principle that the rater was asked by."""


@dataclass
class PreferenceFile:
    """What a file of preferences holds.

    Attributes:
        format: Name of its format, one of ``FORMATS``.
        preferences: The preferences.
        skipped: Places of rows and pairs that were left out, by reason.
        columns: Values of the columns that were asked for, by the id of the comparison.
    """

    format: str = ""
    preferences: list[Preference] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    columns: dict[str, Row] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Count the rows and pairs that were left out, by reason."""
        return {reason: len(places) for reason, places in self.skipped.items()}


def read_preferences(
    path: StrPath, format_name: str = "", *, columns: Sequence[str] = ()
) -> PreferenceFile:
    """Read the preferences of a file.

    Several ranked or scored answers to one prompt give all their pairs. A label is 1, or the
    probability that the file states. Rows that name their ``rater`` are votes: the label of a pair
    is the mean of them.

    Args:
        path: A table: JSON, JSON Lines, CSV, TSV, Parquet, or a saved dataset.
        format_name: Name of its format; by default the one that its first row fits.
        columns: Names of columns whose values are kept beside the preferences.

    Raises:
        InputError: If the format is not known, or a row lacks a column or has something in it that
            is not text.
    """
    file = PreferenceFile(format_name)
    problems: list[Problem] = []
    reader = _Reader(file)
    for place, row in collect_rows(path, problems):
        try:
            known = in_known_columns(row)
            file.format = file.format or format_of(known, FORMATS)
            if file.format not in FORMATS:
                raise InputError([_unknown_format(place, file.format, list(row))])
            outcomes = list(FORMATS[file.format].read(known))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, _explain(error, row, file.format)))
            continue
        values = {name: row[name] for name in columns if row.get(name)}
        for outcome in outcomes:
            if reason := outcome if isinstance(outcome, str) else reader.add(outcome, row, values):
                file.skipped[reason].append(place)
    if problems:
        raise InputError(summarized(problems))
    reader.finish()
    return file


def without_repetitions(
    files: Mapping[str, PreferenceFile],
) -> tuple[list[Preference], dict[str, int]]:
    """Put the preferences of several files together.

    Args:
        files: The files by name.

    Returns:
        Each preference once, and how many rows were left out, by file and reason.
    """
    kept: list[Preference] = []
    counts: dict[str, int] = {}
    known_labels: dict[str, float | None] = {}
    for name, file in files.items():
        left_out = Counter(file.counts)
        for preference in file.preferences:
            if reason := _repetition(preference, known_labels):
                left_out[reason] += 1
            else:
                kept.append(preference)
        counts |= {f"{name}: {reason}": count for reason, count in left_out.items()}
    return kept, counts


def _repetition(preference: Preference, known_labels: dict[str, float | None]) -> str:
    """Say that an earlier row has the same pair, with the same or another label; else note it."""
    comparison, label = preference.comparison, preference.p_first
    if comparison.id in known_labels:
        return _repeated(is_same=known_labels[comparison.id] == label)
    known_labels[comparison.id] = label
    # the same pair with its answers swapped is a duplicate, or contradicts this one
    known_labels[comparison.swap().id] = preference.swap().p_first
    return ""


def _repeated(*, is_same: bool) -> str:
    return "duplicate" if is_same else "contradicts an earlier row"


class _Reader:
    """Collects the pairs of a file.

    Args:
        file: What they are added to.
    """

    def __init__(self, file: PreferenceFile) -> None:
        self._file = file
        self._known_labels: dict[str, float | None] = {}
        self._votes: dict[str, Votes] = {}

    def add(self, pair: Pair, row: Row, values: Row) -> str:
        """Add a pair of a row, with the values of columns that are kept.

        Returns:
            Why it is left out; empty if it is not.
        """
        preference = _preference(pair)
        if values:
            self._file.columns.setdefault(preference.comparison.id, values)
            self._file.columns.setdefault(preference.comparison.swap().id, values)
        if row.get("rater"):
            return self._vote(preference, (row["rater"], row.get("principle")))
        reason = _repetition(preference, self._known_labels)
        if not reason:
            self._file.preferences.append(preference)
        return reason

    def _vote(self, preference: Preference, question: object) -> str:
        """Add what a rater says, in the order of the first vote on the pair."""
        swapped = preference.swap()
        own = swapped if swapped.comparison.id in self._votes else preference
        votes = self._votes.setdefault(own.comparison.id, {})
        if question in votes:
            return _repeated(is_same=votes[question].p_first == own.p_first)
        votes[question] = own
        return ""

    def finish(self) -> None:
        """Make the labels of what the raters say."""
        self._file.preferences += [_mean(list(votes.values())) for votes in self._votes.values()]


def _mean(votes: list[Preference]) -> Preference:
    """The label of a pair that several raters voted on; the better answer is the first one."""
    p_first = sum(vote.p_first or 0.0 for vote in votes) / len(votes)
    label = _labeled(votes[0].comparison, p_first, votes[0].source, votes[0].margin)
    return label if p_first >= 0.5 else label.swap()


def _preference(pair: Pair) -> Preference:
    comparison = Comparison.of(pair.prompt, pair.better, pair.worse, ("human", "human"))
    return _labeled(comparison, pair.p_better, pair.source, pair.margin)


def _labeled(comparison: Comparison, p_first: float, source: str, margin: float) -> Preference:
    return Preference(
        id=digest([comparison.id, source, p_first]),
        comparison=comparison,
        p_first=p_first,
        source=source,
        margin=margin,
    )


def _unknown_format(place: str, name: str, columns: list[str]) -> Problem:
    if name:
        hint = did_you_mean(name, FORMATS)
        return Problem("format", f"unknown format {name!r}{hint}; known: {', '.join(FORMATS)}")
    known = "; ".join(f"{name}: {known.columns}" for name, known in FORMATS.items())
    missing = [name for name in ("chosen", "rejected") if name not in columns]
    hints = dict.fromkeys(did_you_mean(name, columns) for name in missing)
    message = f"has no known preference format{''.join(hints)}; columns: {', '.join(columns)}"
    return Problem(place, f"{message}; known formats: {known}")


def _explain(error: Exception, row: dict[str, object], format_name: str) -> str:
    if isinstance(error, TypeError | AttributeError):
        columns = FORMATS[format_name].columns
        return f"has something of another kind than the format {format_name} ({columns})"
    if isinstance(error, KeyError) and error.args:
        return f"has no column {error}{did_you_mean(str(error.args[0]), row)}"
    return str(error)
