"""Preferences of other people from files; a row that cannot be used is counted by reason with its place, never lost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from cai.data.formats import FORMATS, Pair, format_of
from cai.data.tables import collect_rows
from cai.errors import InputError, Problem, did_you_mean
from cai.files import StrPath
from cai.keys import digest
from cai.records import Comparison, Preference


@dataclass
class PreferenceFile:
    """What a file held: its preferences, and the places of what was left out, by reason."""

    format: str = ""
    preferences: list[Preference] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def counts(self) -> dict[str, int]:
        """How many rows or pairs were left out for which reason."""
        return {reason: len(places) for reason, places in self.skipped.items()}


def read_preferences(path: StrPath, format: str = "") -> PreferenceFile:
    """The preferences of a file in one of the published formats; by default the one its first row is in.

    Several answers to one prompt (ranked, scored) give all their pairs. A pair's label is 1, or what the file says.

    Raises:
        InputError: if the format is not known, or a row lacks a column or holds something that is not text.
    """
    read, problems, seen = PreferenceFile(format), list[Problem](), dict[str, str]()
    for place, row in collect_rows(path, problems):
        read.format = read.format or format_of(row)
        if read.format not in FORMATS:
            raise InputError([_unknown(place, read.format, list(row))])
        try:
            found = list(FORMATS[read.format].read(row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            detail = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            problems.append(Problem(place, f"{detail}{_hint(error, row)}"))
            continue
        for outcome in found:
            if isinstance(outcome, str):
                read.skipped[outcome].append(place)
                continue
            preference = _preference(outcome)
            # the same pair again, or with the answers changed over and another label
            before = seen.get(preference.comparison.id)
            if before is not None:
                same = before == str(preference.p_first)
                read.skipped["is there twice" if same else "contradicts an earlier row"].append(
                    place
                )
                continue
            seen[preference.comparison.id] = str(preference.p_first)
            seen[preference.comparison.swap().id] = str(1 - (preference.p_first or 0.0))
            read.preferences.append(preference)
    if problems:
        raise InputError(problems)
    return read


def _preference(pair: Pair) -> Preference:
    comparison = Comparison.of(pair.prompt, pair.better, pair.worse, ("human", "human"))
    name = digest([comparison.id, pair.source, pair.p_better])
    return Preference(
        id=name,
        comparison=comparison,
        p_first=pair.p_better,
        source=pair.source,
        margin=pair.margin,
    )


def _unknown(place: str, format: str, columns: list[str]) -> Problem:
    if format:
        return Problem(
            "format",
            f"there is no format {format!r}{did_you_mean(format, FORMATS)}; there are {', '.join(FORMATS)}",
        )
    known = "; ".join(f"{name}: {form.columns}" for name, form in FORMATS.items())
    hint = "".join(
        dict.fromkeys(
            did_you_mean(name, columns) for name in ("chosen", "rejected") if name not in columns
        )
    )
    return Problem(
        place,
        f"is in no form that holds preferences{hint}; its columns are {', '.join(columns)}; known forms are {known}",
    )


def _hint(error: Exception, row: dict[str, object]) -> str:
    return (
        did_you_mean(str(error.args[0]), row) if isinstance(error, KeyError) and error.args else ""
    )
