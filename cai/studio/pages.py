"""The pages of the studio: each answers one address, and all of them only read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from cai.cleaning import clean
from cai.errors import CaiError
from cai.records import Preference, Record
from cai.studio import overview, texts
from cai.studio.library import Library, StudioRun
from cai.studio.newest import newest
from cai.studio.query import MARKS, PAGE, Filters, Found
from cai.studio.rendering import environment, read_record, record_values, template_of, text_of

MAX_FILTER = 500
"""Characters of a filter in an address that are read."""


class Pages:
    """Answers the addresses of the pages.

    Args:
        library: The runs.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._templates = environment(address=address, home="/", static="/static/", is_bundle=False)

    def routes(self) -> list[Route]:
        """The addresses and what answers each."""
        answers: dict[str, Callable[[Request], Response]] = {
            "/": self.runs,
            "/run/{run}/": self.overview,
            "/run/{run}/progress": self.progress,
            "/run/{run}/plot/{name}.svg": self.plot,
            "/run/{run}/{stage}": self.records,
            "/run/{run}/{stage}/record": self.record,
            "/run/{run}/{stage}/record.json": self.record_json,
            "/run/{run}/{stage}/text": self.text,
        }
        return [Route(path, answer, methods=["GET"]) for path, answer in answers.items()]

    def runs(self, _: Request) -> Response:
        """List the runs; the overview if there is only one."""
        runs = list(self._library.runs.values())
        if len(runs) == 1:
            return RedirectResponse(address(runs[0]), status_code=303)
        return self.page("runs", runs=runs)

    def overview(self, request: Request) -> Response:
        """A run: its stages, what they measured, and what went wrong."""
        run = self.run(request)
        return self.page("overview", run=run, **self._progress(run))

    def progress(self, request: Request) -> Response:
        """The part of the overview that changes while a run goes on."""
        run = self.run(request)
        return self.page("progress", run=run, **self._progress(run))

    def plot(self, request: Request) -> Response:
        """A figure of the report, as an image."""
        image = overview.plot(self.run(request), request.path_params["name"])
        if not image:
            raise HTTPException(404, "there is no such figure yet")
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        # its address changes with its data
        headers = {"Content-Security-Policy": policy, "Cache-Control": "private, max-age=3600"}
        return Response(image, media_type="image/svg+xml", headers=headers)

    def records(self, request: Request) -> Response:
        """The records of a stage that fit the filters, one page of them."""
        run, stage = self.run(request), self.stage(request)
        filters = filters_of(request.query_params)
        with run.query(stage) as (index, query):
            count = query.count(filters)
            last = max(1, -(-count // PAGE))
            page = min(max(1, _whole(request.query_params.get("page", ""))), last)
            found = query.page(filters, page)
            choices = run.choices(stage, query)
            damaged = query.damaged()
        done, size = index.progress()
        return self.page(
            "records",
            **self.around(run, stage, filters),
            count=count,
            page=page,
            last=last,
            found=found,
            choices=choices,
            damaged=damaged,
            can_label=index.kind is Preference,
            indexed=done / size if size else 1.0,
        )

    def record(self, request: Request) -> Response:
        """One record with everything that is known of it."""
        run, stage = self.run(request), self.stage(request)
        filters = filters_of(request.query_params)
        row, record, same = self.record_of(request)
        with run.query(stage) as (_, query):
            before, after = query.neighbours(filters, row["line"])
        return self.page(
            template_of(record),
            **self.around(run, stage, filters),
            **record_values(run, row, record),
            whole=lambda part: address(
                run, stage, "text", id=row["id"], line=row["line"], part=part
            ),
            same=same,
            before=before,
            after=after,
        )

    def record_json(self, request: Request) -> Response:
        """One record as JSON."""
        _, record, _ = self.record_of(request)
        values = record.model_dump(mode="json")
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        return Response(text, media_type="application/json")

    def text(self, request: Request) -> Response:
        """One text of a record, whole."""
        _, record, _ = self.record_of(request)
        text = text_of(record, request.query_params.get("part", ""))
        if text is None:
            raise HTTPException(404, "the record has no such text")
        return PlainTextResponse(texts.visible(text))

    def failed(self, _: Request, error: Exception) -> Response:
        """Say in a page what is wrong."""
        status, text = 500, str(error)
        if isinstance(error, HTTPException):
            status, text = error.status_code, error.detail
        if isinstance(error, sqlite3.DatabaseError):
            status, text = 503, "The index of these records is being built. This page waits for it."
        return self.page("failed", status_code=status, text=text, waits=status == 503)

    def page(self, name: str, status_code: int = 200, **values: Any) -> Response:
        """Render a template as a page.

        Args:
            name: The template.
            status_code: The status of the response.
            **values: What the template shows.
        """
        template = self._templates.get_template(f"{name}.html.jinja")
        body = template.render(runs_open=len(self._library.runs), **values)
        # what a template may write but UTF-8 cannot hold is replaced, not an error
        return HTMLResponse(clean(body), status_code)

    def _progress(self, run: StudioRun) -> dict[str, Any]:
        return {
            "stages": overview.stage_rows(run),
            "figures": overview.figures(run),
            "is_working": run.is_working(),
            "newest": newest(run) if run.is_working() else None,
        }

    def around(self, run: StudioRun, stage: str, filters: Filters) -> dict[str, Any]:
        """What the pages of a stage have in common."""
        tabs = run.counts(Filters(text=filters.text))
        return {"run": run, "stage": stage, "filters": filters, "tabs": tabs}

    def run(self, request: Request) -> StudioRun:
        """The run that an address names.

        Raises:
            HTTPException: If there is none.
        """
        run = self._library.runs.get(request.path_params["run"])
        if run is None:
            raise HTTPException(404, "no such run is open")
        return run

    def stage(self, request: Request) -> str:
        """The stage that an address names.

        Raises:
            HTTPException: If its run has no records of it.
        """
        stage = str(request.path_params["stage"])
        if stage not in self.run(request).stages():
            raise HTTPException(404, "the run has no records of such a stage")
        return stage

    def record_of(self, request: Request) -> tuple[Found, Record, list[Found]]:
        """The record that an address names, and all records with its id.

        Raises:
            HTTPException: If there is none.
        """
        query, stage = request.query_params, self.stage(request)
        with self.run(request).query(stage) as (index, db):
            same = db.with_id(query.get("id", ""))
        line = _whole(query.get("line", ""))
        row = next((one for one in same if one["line"] == line), same[0] if same else None)
        if row is None:
            raise HTTPException(404, "there is no record with this id; its stage was done again")
        record = read_record(index, row)
        if record is None:
            raise HTTPException(503, "the record was replaced a moment ago; reload")
        return row, record, same


def filters_of(query: Any) -> Filters:
    """Read the filters of an address.

    Args:
        query: Its parameters; those that are no filters are left out.
    """
    names = ("principle", "set", "status", "source")
    values = {name: query.get(name, "")[:MAX_FILTER] for name in names}
    marks = tuple(mark for mark in MARKS if mark in query.getlist("mark"))
    return Filters(text=query.get("q", "")[:MAX_FILTER], marks=marks, **values)


def address(run: StudioRun, *parts: str, filters: Filters | None = None, **query: Any) -> str:
    """Write the address of a page.

    Args:
        run: The run.
        *parts: The parts of the path below that of the run.
        filters: Filters that the page keeps.
        **query: More parameters; an empty one is left out.
    """
    path = "/".join(["/run", run.key, *parts]) if parts else f"/run/{run.key}/"
    pairs = [(name, str(value)) for name, value in query.items() if value not in ("", None)]
    if filters is not None:
        known = {"q": filters.text, "principle": filters.principle, "set": filters.set}
        known |= {"status": filters.status, "source": filters.source}
        pairs += [(name, value) for name, value in known.items() if value]
        pairs += [("mark", mark) for mark in filters.marks]
    return quote(path) + (f"?{urlencode(pairs)}" if pairs else "")


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else 0


FAILURES: tuple[type[Exception], ...] = (HTTPException, CaiError, sqlite3.DatabaseError)
"""The errors that a page explains."""
