"""The studio as a web application: pages, static files, and the guard in front of both."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from cai.studio.edit_pages import EditPages
from cai.studio.label_pages import LabelPages
from cai.studio.library import Library
from cai.studio.pages import FAILURES, Pages
from cai.studio.people_pages import PeoplePages
from cai.studio.rank_pages import RankPages
from cai.studio.rendering import STATIC
from cai.studio.security import Guard
from cai.studio.talk_pages import TalkPages
from cai.studio.understand_pages import UnderstandPages
from cai.studio.write_pages import WritePages


def build_app(library: Library, token: str, name: str) -> Guard:
    """Make the application.

    Args:
        library: The runs that it shows.
        token: The secret that lets the user's browser in.
        name: What tells its cookie from that of another studio on this machine: its port.
    """
    pages = Pages(library)
    static = Route("/static/{name}", _static, methods=["GET"])
    handlers = dict.fromkeys(FAILURES, pages.failed)
    sections = (
        LabelPages(pages),
        RankPages(pages),
        EditPages(pages),
        PeoplePages(pages),
        TalkPages(pages),
        UnderstandPages(pages, library),
        WritePages(pages),
        pages,
    )
    routes = [route for section in sections for route in section.routes()]
    app = Starlette(routes=[static, *routes], exception_handlers=handlers)
    return Guard(app, token, name)


def _static(request: Request) -> Response:
    path = STATIC.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404, "no such file")
    return FileResponse(path, headers={"Cache-Control": "max-age=3600"})
