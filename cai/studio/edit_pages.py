"""Write a better answer than a revision: the page that asks, and the address that stores."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cai.records import Revision
from cai.studio.demonstrations import DemonstrationFile, demonstration_row
from cai.studio.forms import read_form
from cai.studio.label_pages import asked_of
from cai.studio.pages import Pages, address, filters_of

MAX_ANSWER = 100_000
"""Characters of an answer."""


class EditPages:
    """Lets people write better answers than revisions.

    Args:
        pages: The pages that it is one of.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """The addresses and what answers each."""
        path = "/run/{run}/{stage}/edit"
        return [
            Route(path, self.ask, methods=["GET"]),
            Route(path, self.store, methods=["POST"]),
        ]

    def ask(self, request: Request) -> Response:
        """Show a revision in a field, or what its reader has made of it before."""
        run, stage, query = (
            self._pages.run(request),
            self._pages.stage(request),
            request.query_params,
        )
        filters, rater = filters_of(query), asked_of(query, run).rater
        row, record, _ = self._pages.record_of(request)
        if not isinstance(record, Revision):
            raise HTTPException(404, "only a revision can be written anew")
        with run.query(stage) as (_, db):
            _, after = db.neighbours(filters, row["line"])
        return self._pages.page(
            "edit",
            **self._pages.around(run, stage, filters),
            row=row,
            record=record,
            rater=rater,
            own=DemonstrationFile(run.folder).by(rater).get(record.id),
            after=after,
            constitution=run.constitution,
        )

    async def store(self, request: Request) -> Response:
        """Store an answer."""
        form = await read_form(request, 12 * MAX_ANSWER)  # a character can take 12 bytes
        return await run_in_threadpool(self._store, request, form)

    def _store(self, request: Request, form: QueryParams) -> Response:
        run, stage = self._pages.run(request), self._pages.stage(request)
        rater = asked_of(form, run).rater
        answer = form.get("answer", "").replace("\r\n", "\n").strip()
        _, record, _ = self._pages.record_of(request)
        if not isinstance(record, Revision):
            raise HTTPException(404, "only a revision can be written anew")
        if not rater or not answer or len(answer) > MAX_ANSWER:
            text = f"an answer needs a name, and 1 to {MAX_ANSWER:,} characters"
            raise HTTPException(400, text)
        DemonstrationFile(run.folder).save(demonstration_row(record, answer, rater))
        place = {name: request.query_params.get(name, "") for name in ("id", "line")}
        filters = filters_of(request.query_params)
        again = address(run, stage, "edit", **place, rater=rater, filters=filters)
        return RedirectResponse(again, status_code=303)
