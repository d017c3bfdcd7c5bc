"""Label two answers blind, by keys: the page that asks, and the address that stores."""

from __future__ import annotations

from typing import Any, cast, get_args

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cai.evaluate.agreement import MatchedPair, agreement
from cai.records import Preference
from cai.studio.forms import read_form
from cai.studio.index import StageIndex
from cai.studio.labels import Choice, is_swapped, make_row
from cai.studio.pages import Pages, address, filters_of
from cai.studio.query import Filters, Query

MAX_NAME, MAX_NOTE = 80, 4_000
"""Characters of a rater's name and of a note."""
LOOK_AHEAD = 100
"""Records that are looked at for one whose answers can be told apart."""


class LabelPages:
    """Asks people which of two answers is better.

    Args:
        pages: The pages that it is one of.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._skipped: dict[tuple[str, str], set[str]] = {}

    def routes(self) -> list[Route]:
        """The addresses and what answers each."""
        path = "/run/{run}/{stage}/label"
        return [
            Route(path, self.ask, methods=["GET"]),
            Route(path, self.store, methods=["POST"]),
        ]

    def ask(self, request: Request) -> Response:
        """Show the next comparison of a queue: the records of a stage that fit the filters."""
        run, stage, query = (
            self._pages.run(request),
            self._pages.stage(request),
            request.query_params,
        )
        filters, rater = filters_of(query), _name(query)
        own = run.labels.by_rater(rater)
        left_out = {*own, *self._skipped.get((run.key, rater), ())}
        with run.query(stage) as (index, db):
            if index.kind is not Preference:
                raise HTTPException(404, "only labels have two answers to choose from")
            asked = _next(index, db, filters, left_out, query.get("pair", "")) if rater else None
            pairs = _matched(index, db, own)
            last = _records(index, db, [query.get("last", "")])
        answers = [asked.comparison.first, asked.comparison.second] if asked else []
        if asked and is_swapped(asked.comparison.id, rater):
            answers.reverse()
        return self._pages.page(
            "label",
            **self._pages.around(run, stage, filters),
            rater=rater,
            asked=asked,
            answers=answers,
            count=len(own),
            agreement=agreement(pairs),
            last=_last(last, own),
        )

    async def store(self, request: Request) -> Response:
        """Store a label, skip a comparison, or take the last label back."""
        return await run_in_threadpool(self._store, request, await read_form(request))

    def _store(self, request: Request, form: QueryParams) -> Response:
        run, stage = self._pages.run(request), self._pages.stage(request)
        rater, pair, choice = _name(form), form.get("pair", ""), form.get("choice", "")
        if not rater:
            raise HTTPException(400, "a label needs the name of its rater")
        again: dict[str, Any] = {"rater": rater, "filters": filters_of(form)}
        if choice == "undo":
            removed = run.labels.undo(rater)
            again["pair"] = removed["pair"] if removed else ""
        elif choice == "skip":
            self._skipped.setdefault((run.key, rater), set()).add(pair)
        elif choice in get_args(Choice):
            with run.query(stage) as (index, db):
                found = _records(index, db, [pair])
            if not found:
                raise HTTPException(404, "there is no such comparison; its stage was done again")
            note = form.get("note", "")[:MAX_NOTE]
            run.labels.add(make_row(found[0].comparison, cast("Choice", choice), rater, note))
            again["last"] = pair
        else:
            raise HTTPException(400, "there is no such choice")
        return RedirectResponse(address(run, stage, "label", **again), status_code=303)


def _name(values: Any) -> str:
    return str(values.get("rater", "")).strip()[:MAX_NAME]


def _next(
    index: StageIndex, db: Query, filters: Filters, left_out: set[str], pair: str
) -> Preference | None:
    """The comparison to ask for: the one that is named, or the next of the queue."""
    if pair and pair not in left_out and (found := _records(index, db, [pair])):
        return found[0]
    for row in db.shuffled(filters, left_out, LOOK_AHEAD):
        record = cast("Preference", index.record(row["offset"], row["length"]))
        answers = (record.comparison.first.strip(), record.comparison.second.strip())
        if all(answers) and answers[0] != answers[1]:
            return record
    return None


def _records(index: StageIndex, db: Query, pairs: list[str]) -> list[Preference]:
    rows = db.with_pairs([pair for pair in pairs if pair])
    return [cast("Preference", index.record(row["offset"], row["length"])) for row in rows]


def _matched(index: StageIndex, db: Query, own: dict[str, dict[str, Any]]) -> list[MatchedPair]:
    """The rater's labels beside the judge's, as ``cai.evaluate`` matches them: without ties."""
    return [
        MatchedPair(record.comparison, record.p_first, own[record.comparison.id]["p_first"], {})
        for record in _records(index, db, list(own))
        if record.p_first is not None and own[record.comparison.id]["p_first"] != 0.5
    ]


def _last(found: list[Preference], own: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The label that was given last, with the judge's, which is only shown now."""
    if not found or found[0].comparison.id not in own:
        return None
    return {"record": found[0], "p_first": own[found[0].comparison.id]["p_first"]}
