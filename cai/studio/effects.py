"""What each principle of a run did: replies that it changed, labels that it decided."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, cast

from pydantic import ValidationError

from cai.evaluate.influence import Influence, Part, influence, parts_of
from cai.feedback.panel import one_per_principle
from cai.files import read_object
from cai.pipeline.layout import iteration_folders
from cai.pipeline.run import CONFIG, CONSTITUTION_LOCK
from cai.records import Preference, Record, Revision, Step
from cai.report.report_data import Effect, effects
from cai.studio.library import StudioRun, is_inside, stamp
from cai.studio.query import PAGE, Filters, Found
from cai.studio.rows import MAX_LINE

R = TypeVar("R", bound=Record)
SHOWN = 5
"""Revisions and labels that the page of a principle shows."""
_COUNTING = threading.Lock()
MAX_PAGES = 40
"""Pages of labels in which those are looked for that a principle tips."""


class PrincipleRow(NamedTuple):
    """What one principle did.

    Attributes:
        effect: How often it was drawn, what it changed and what it decided.
        influence: Its part in the labels, by leaving it out; None if it has none.
    """

    effect: Effect
    influence: Influence | None


class ChangedReply(NamedTuple):
    """A round of revision that changed the reply.

    Attributes:
        stage: The stage of the record.
        row: The record.
        before: The reply before the round.
        step: The round.
    """

    stage: str
    row: Found
    before: str
    step: Step


class TippedLabel(NamedTuple):
    """A label that is another one, or none, without one principle.

    Attributes:
        stage: The stage of the record.
        row: The record.
        label: The label.
        verdict: What the principle says: the probability of the first answer.
    """

    stage: str
    row: Found
    label: Preference
    verdict: float


def principle_rows(run: StudioRun) -> list[PrincipleRow]:
    """Measure what each principle of a run did, as its report and ``cai influence`` do.

    Args:
        run: The run.

    Returns:
        One row for each principle, those with the largest effect first. Lines of files that are no
        records are left out.
    """
    files = [run.folder / CONFIG, run.folder / CONSTITUTION_LOCK]
    files += [run.stages()[name].records for name in _names(run, "revise", "judge")]
    with _COUNTING:  # of several pages that ask at once, the first counts
        return _principle_rows(run, tuple(map(stamp, files)))


@lru_cache(maxsize=8)
def _principle_rows(run: StudioRun, _stamps: object) -> list[PrincipleRow]:
    weights, judge = _weights(run), run.config.judge
    rows = effects(run.constitution, _read(run, "revise", Revision), _labels(run, whole=True))
    found = influence(_labels(run), weights, judge.combine)
    by_name = {row.principle: row for row in found}
    return [PrincipleRow(row, by_name.get(row.principle)) for row in rows]


def parts_by(run: StudioRun, label: Preference, principle: str) -> list[Part]:
    """The part of each judgment by a principle in a label of a run.

    Args:
        run: The run.
        label: The label.
        principle: The principle.
    """
    judge = run.config.judge
    label = one_per_principle(label, judge.combine_judges)
    parts = parts_of(label, _weights(run), judge.combine)
    return [part for name, part in parts if name == principle]


def changed_replies(run: StudioRun, principle: str) -> list[ChangedReply]:
    """Some rounds of revision by a principle that changed the reply.

    Args:
        run: The run.
        principle: The principle.
    """
    found = []
    filters = Filters(principle=principle, marks=("changed",))
    for stage in _names(run, "revise"):
        with run.query(stage) as (index, query):
            for row in query.page(filters, 1):
                record = cast("Revision", index.record(row["offset"], row["length"]))
                before = record.sample.response
                for step in record.steps:
                    if step.principle == principle and not step.unchanged and step.status == "ok":
                        found.append(ChangedReply(stage, row, before, step))
                        break
                    before = step.revision
                if len(found) == SHOWN:
                    return found
    return found


def tipped_labels(run: StudioRun, principle: str) -> list[TippedLabel]:
    """Some labels that a principle tips: without it they are others, or none.

    Args:
        run: The run.
        principle: The principle.
    """
    found: list[TippedLabel] = []
    for stage in _names(run, "judge"):
        with run.query(stage) as (index, query):
            for number in range(1, MAX_PAGES + 1):
                rows = query.page(Filters(principle=principle, status="ok"), number)
                for row in rows:
                    label = cast("Preference", index.record(row["offset"], row["length"]))
                    if (verdict := _tips(run, label, principle)) is not None:
                        found.append(TippedLabel(stage, row, label, verdict))
                    if len(found) == SHOWN:
                        return found
                if len(rows) < PAGE:
                    break
    return found


def _tips(run: StudioRun, label: Preference, principle: str) -> float | None:
    """The verdict of a principle if it tips a label, else None."""
    if not any(part.flips for part in parts_by(run, label, principle)):
        return None
    label = one_per_principle(label, run.config.judge.combine_judges)
    return next((j.p_first for j in label.judgments if j.principle == principle), None)


def judge_tests(run: StudioRun) -> dict[str, Any]:
    """The tests of the judge on each principle's examples, from the audit of the last iteration.

    Args:
        run: The run.

    Returns:
        For each principle the proportion passed of each kind of test; nothing without an audit.
    """
    path = iteration_folders(run.folder, "audit")[-1] / "audit.json"
    audit = (read_object(path) or {}) if is_inside(path, run.folder) else {}
    found = audit.get("examples_by_principle")
    return found if isinstance(found, dict) else {}


def _weights(run: StudioRun) -> Mapping[str, float]:
    """The weights with which a run's judgments are combined."""
    return {} if run.config.judge.principles else run.constitution.used_for("judge")


def _names(run: StudioRun, *kinds: str) -> list[str]:
    """The stages of a run with records of some kinds, all iterations."""
    return [name for name in run.stages() if name.partition("-")[0] in kinds]


def _labels(run: StudioRun, *, whole: bool = False) -> Iterator[Preference]:
    """The labels of a run; unless ``whole``, with one judgment of each principle."""
    for label in _read(run, "judge", Preference):
        yield label if whole else one_per_principle(label, run.config.judge.combine_judges)


def _read(run: StudioRun, kind: str, record: type[R]) -> Iterator[R]:
    """The records of a kind of stage, one at a time."""
    for name in _names(run, kind):
        with run.stages()[name].records.open("rb") as file:
            while line := file.readline(MAX_LINE):
                try:
                    yield record.model_validate_json(line)
                except ValidationError:  # the lists of records count such lines
                    continue
