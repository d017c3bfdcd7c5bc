"""Label two answers blind, by keys: the page that asks, and the address that stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast, get_args

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cai.constitution.schema import Principle
from cai.evaluate.agreement import agreement
from cai.records import Preference
from cai.studio.forms import FormPages
from cai.studio.index import StageIndex
from cai.studio.labels import Choice, is_swapped, make_row
from cai.studio.library import StudioRun
from cai.studio.pages import Pages, address, filters_of
from cai.studio.query import Filters, Query
from cai.studio.raters import beside_judge, judged_by

MAX_NAME, MAX_NOTE = 80, 4_000
"""Characters of a rater's name and of a note."""
LOOK_AHEAD = 100
"""Records that are looked at for one whose answers can be told apart."""


class Asked(NamedTuple):
    """Who is asked, and by which principle.

    Attributes:
        rater: The name of the rater; empty before it is known.
        by: Id of the principle; empty for a label overall.
    """

    rater: str
    by: str


class LabelPages(FormPages):
    """Asks people which of two answers is better.

    Args:
        pages: The pages that it is one of.
    """

    path = "/run/{run}/{stage}/label"

    def __init__(self, pages: Pages) -> None:
        super().__init__(pages)
        self._skipped: dict[tuple[str, Asked], set[str]] = {}

    def ask(self, request: Request) -> Response:
        """Show the next comparison of a queue: the records of a stage that fit the filters."""
        run, stage, query = (
            self._pages.run(request),
            self._pages.stage(request),
            request.query_params,
        )
        filters, asked = filters_of(query), asked_of(query, run)
        own = run.labels.by_rater(*asked)
        left_out = {*own, *self._skipped.get((run.key, asked), ())}
        with run.query(stage) as (index, db):
            check_labels(index)
            pair = query.get("pair", "")
            record = _next(index, db, filters, left_out, pair) if asked.rater else None
            judged = records_of(index, db, list(own))
            last = _last(index, db, query.get("last", ""), asked, own)
        answers = [record.comparison.first, record.comparison.second] if record else []
        if record and is_swapped(record.comparison.id, asked.rater):
            answers.reverse()
        return self._pages.page(
            "label",
            **self._pages.around(run, stage, filters),
            **about(asked, run),
            record=record,
            answers=answers,
            count=len(own),
            agreement=agreement(beside_judge(judged, own, asked.by)),
            last=last,
        )

    def store(self, request: Request, form: QueryParams) -> Response:
        """Store a label, skip a comparison, or take the last label back."""
        run, stage = self._pages.run(request), self._pages.stage(request)
        asked, pair, choice = asked_of(form, run), form.get("pair", ""), form.get("choice", "")
        if not asked.rater:
            raise HTTPException(400, "a label needs the name of its rater")
        again: dict[str, Any] = {**asked._asdict(), "filters": filters_of(form)}
        if choice == "undo":
            removed = run.labels.undo(*asked)
            again["pair"] = removed["pair"] if removed else ""
        elif choice == "skip":
            self._skipped.setdefault((run.key, asked), set()).add(pair)
        elif choice in get_args(Choice):
            with run.query(stage) as (index, db):
                found = records_of(index, db, [pair])
            if not found:
                raise HTTPException(404, "there is no such comparison; its stage was done again")
            note, choice = form.get("note", "")[:MAX_NOTE], cast("Choice", choice)
            run.labels.add(make_row(found[0].comparison, choice, asked.rater, note, asked.by))
            again["last"] = pair
        else:
            raise HTTPException(400, "there is no such choice")
        return RedirectResponse(address(run, stage, "label", **again), status_code=303)


def asked_of(values: Any, run: StudioRun) -> Asked:
    """Read from an address or a form who is asked, and by which principle.

    Args:
        values: The parameters.
        run: The run.

    Raises:
        HTTPException: If its constitution has no such principle.
    """
    by = values.get("by", "")
    if by and by not in run.constitution.principles:
        raise HTTPException(404, "the run's constitution has no such principle")
    return Asked(values.get("rater", "").strip()[:MAX_NAME], by)


def about(asked: Asked, run: StudioRun) -> dict[str, Any]:
    """What the pages that ask say about the question, and what else could be asked.

    Args:
        asked: Who is asked, and by which principle.
        run: The run.
    """
    principles = run.constitution.principles
    by: Principle | None = principles.get(asked.by)
    questions = {name: principles[name].title for name in run.constitution.used_for("judge")}
    return {"rater": asked.rater, "by": by, "questions": questions}


def check_labels(index: StageIndex) -> None:
    """Refuse a stage whose records are no labels.

    Args:
        index: The index of the stage.

    Raises:
        HTTPException: If they are others.
    """
    if index.kind is not Preference:
        raise HTTPException(404, "only labels have two answers to choose from")


def records_of(index: StageIndex, db: Query, pairs: list[str]) -> list[Preference]:
    """The labels of some comparisons.

    Args:
        index: The index of their stage.
        db: The same, open.
        pairs: Ids of the comparisons.
    """
    rows = db.with_pairs([pair for pair in pairs if pair])
    return [cast("Preference", index.record(row["offset"], row["length"])) for row in rows]


def _next(
    index: StageIndex, db: Query, filters: Filters, left_out: set[str], pair: str
) -> Preference | None:
    """The comparison to ask for: the one that is named, or the next of the queue."""
    if pair and pair not in left_out and (found := records_of(index, db, [pair])):
        return found[0]
    for row in db.shuffled(filters, left_out, LOOK_AHEAD):
        record = cast("Preference", index.record(row["offset"], row["length"]))
        answers = (record.comparison.first.strip(), record.comparison.second.strip())
        if all(answers) and answers[0] != answers[1]:
            return record
    return None


def _last(
    index: StageIndex, db: Query, pair: str, asked: Asked, own: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The label that was given last, with the judge's, which is only shown now."""
    found = records_of(index, db, [pair])
    if not found or pair not in own:
        return None
    judged = judged_by(found[0], asked.by)
    return {"record": found[0], "p_first": own[pair]["p_first"], "judged": judged}
