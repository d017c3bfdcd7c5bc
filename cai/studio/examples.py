"""The examples that an edit of a principle is tried on: pinned ones, or the most influenced."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import Counter
from typing import NamedTuple

from pydantic import ValidationError

from cai.files import read_object, write_json
from cai.records import Comparison, Preference, Prompt, Record, Revision, Sample
from cai.studio.effects import parts_by
from cai.studio.library import StudioRun
from cai.studio.query import Filters
from cai.words import words

EXAMPLES = 5
"""Examples of a principle."""
PINNED = "pinned_examples.json"
"""The file of a run that names the pinned examples of each principle."""
LOOKED_AT = 4
"""Pages of records of a stage among which the most influenced are looked for."""
_pinning = threading.Lock()


class Example(NamedTuple):
    """A record that a principle is tried on.

    Attributes:
        stage: The stage of the record.
        record: The record: a revision, whose draft is revised again, or a label, whose answers
            are judged again.
        is_pinned: Whether a person chose it.
    """

    stage: str
    record: Revision | Preference
    is_pinned: bool

    @property
    def prompt(self) -> Prompt:
        """The prompt."""
        return _prompt_of(self.record)

    @property
    def sample(self) -> Sample | None:
        """The draft to revise; None for a label."""
        return self.record.sample if isinstance(self.record, Revision) else None

    @property
    def comparison(self) -> Comparison | None:
        """The answers to judge; None for a revision."""
        return self.record.comparison if isinstance(self.record, Preference) else None


def examples_of(run: StudioRun, principle: str) -> list[Example]:
    """The examples of a principle: those that are pinned, then those most influenced by it.

    Args:
        run: The run.
        principle: The id of the principle.
    """
    found = []
    for stage, name in _pins(run).get(principle, []):
        record = _record(run, stage, name)
        if record is not None:
            found.append(Example(stage, record, is_pinned=True))
    known = {(one.stage, one.record.id) for one in found}
    rest = [Example(*one, is_pinned=False) for one in _most_influenced(run, principle)]
    found += [one for one in rest if (one.stage, one.record.id) not in known]
    return found[:EXAMPLES]


def pin(run: StudioRun, principle: str, stage: str, name: str, *, is_pinned: bool) -> None:
    """Pin a record to a principle, or take it off again. The oldest pin makes room for a new one.

    Args:
        run: The run.
        principle: The id of the principle.
        stage: The stage of the record.
        name: The id of the record.
        is_pinned: Whether it is to be pinned.

    Raises:
        LimitReached: If the file cannot be written.
    """
    with _pinning:
        pins = _pins(run)
        rest = [one for one in pins.get(principle, []) if one != (stage, name)]
        pins[principle] = [(stage, name), *rest][:EXAMPLES] if is_pinned else rest
        write_json(run.folder / PINNED, pins)


def _pins(run: StudioRun) -> dict[str, list[tuple[str, str]]]:
    path = run.folder / PINNED
    value = {} if path.is_symlink() else read_object(path) or {}
    return {
        principle: [(str(pair[0]), str(pair[1])) for pair in pairs if _is_pair(pair)]
        for principle, pairs in value.items()
        if isinstance(pairs, list)
    }


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _record(run: StudioRun, stage: str, name: str) -> Revision | Preference | None:
    """A record by its id; None if it is not there any more."""
    if stage not in run.stages():
        return None
    try:
        with run.query(stage) as (index, db):
            rows = db.with_id(name)
        record = index.record(rows[0]["offset"], rows[0]["length"]) if rows else None
    except (sqlite3.DatabaseError, ValidationError):
        return None
    return record if isinstance(record, Revision | Preference) else None


def _most_influenced(run: StudioRun, principle: str) -> list[tuple[str, Revision | Preference]]:
    """The records that a principle changed most: revisions first, then labels.

    Different prompts come before a second record of one prompt.
    """
    rated: list[tuple[bool, float, str, Revision | Preference]] = []
    for stage, index in run.stages().items():
        if index.kind not in (Revision, Preference):
            continue
        for record in _records_by(run, stage, principle):
            if isinstance(record, Revision):
                rated.append((True, _changed(record, principle), stage, record))
            elif isinstance(record, Preference):
                rated.append((False, _moved(run, record, principle), stage, record))
    rated.sort(key=lambda one: one[:2], reverse=True)
    seen: Counter[str] = Counter()
    order = []
    for place, (_, _, stage, record) in enumerate(rated):
        prompt = _prompt_of(record).id
        order.append((not isinstance(record, Revision), seen[prompt], place, stage, record))
        seen[prompt] += 1
    order.sort(key=lambda one: one[:3])
    return [(stage, record) for *_, stage, record in order[:EXAMPLES]]


def _prompt_of(record: Revision | Preference) -> Prompt:
    return record.sample.prompt if isinstance(record, Revision) else record.comparison.prompt


def _records_by(run: StudioRun, stage: str, principle: str) -> list[Record]:
    found = []
    with contextlib.suppress(sqlite3.DatabaseError), run.query(stage) as (index, db):
        for page in range(1, LOOKED_AT + 1):
            for row in db.page(Filters(principle=principle), page):
                with contextlib.suppress(ValidationError):
                    found.append(index.record(row["offset"], row["length"]))
    return found


def _changed(revision: Revision, principle: str) -> float:
    """The share of words that the steps by a principle put in or took out, at most."""
    before, most = revision.sample.response, 0.0
    for step in revision.steps:
        if step.status == "ok":
            if step.principle == principle:
                old, new = Counter(words(before)), Counter(words(step.revision))
                different = (old - new).total() + (new - old).total()
                most = max(most, different / max(1, old.total() + new.total()))
            before = step.revision
    return most


def _moved(run: StudioRun, label: Preference, principle: str) -> float:
    """How far a label would move without a principle, as ``cai influence`` says."""
    return max((part.moves for part in parts_by(run, label, principle)), default=0.0)
