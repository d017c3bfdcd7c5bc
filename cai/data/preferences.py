"""Read human preferences from files in the usual formats.

A row that cannot be used is counted by reason, with its place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cai.data.formats import FORMATS, Outcome, Pair, format_of
from cai.data.tables import Row, collect_rows
from cai.errors import InputError, Problem, did_you_mean, summarized
from cai.files import StrPath
from cai.keys import digest
from cai.records import Comparison, Preference


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
    probability that the file states.

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
    known_labels: dict[str, float | None] = {}
    for place, row in collect_rows(path, problems):
        file.format = file.format or format_of(row)
        if file.format not in FORMATS:
            raise InputError([_unknown_format(place, file.format, list(row))])
        try:
            outcomes = list(FORMATS[file.format].read(row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            problems.append(Problem(place, _explain(error, row)))
            continue
        values = {name: row[name] for name in columns if row.get(name)}
        read_before = len(file.preferences)
        for outcome in outcomes:
            _add(file, outcome, place, known_labels)
        if values:
            added = file.preferences[read_before:]
            file.columns |= {preference.comparison.id: values for preference in added}
    if problems:
        raise InputError(summarized(problems))
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
        is_same = known_labels[comparison.id] == label
        return "duplicate" if is_same else "contradicts an earlier row"
    known_labels[comparison.id] = label
    # the same pair with its answers swapped is a duplicate, or contradicts this one
    known_labels[comparison.swap().id] = preference.swap().p_first
    return ""


def _add(
    file: PreferenceFile, outcome: Outcome, place: str, known_labels: dict[str, float | None]
) -> None:
    """Add a pair to a file, or count why it is left out."""
    if isinstance(outcome, str):
        file.skipped[outcome].append(place)
        return
    preference = _preference(outcome)
    if reason := _repetition(preference, known_labels):
        file.skipped[reason].append(place)
    else:
        file.preferences.append(preference)


def _preference(pair: Pair) -> Preference:
    comparison = Comparison.of(pair.prompt, pair.better, pair.worse, ("human", "human"))
    return Preference(
        id=digest([comparison.id, pair.source, pair.p_better]),
        comparison=comparison,
        p_first=pair.p_better,
        source=pair.source,
        margin=pair.margin,
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


def _explain(error: Exception, row: dict[str, object]) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"has no column {error}{did_you_mean(str(error.args[0]), row)}"
    return str(error)
