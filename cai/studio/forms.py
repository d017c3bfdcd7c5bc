"""Pages with a form, and what a browser sends of it by POST."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cai.studio.pages import Pages

MAX_BODY = 64 << 10
"""Bytes of a form that are read, unless its page takes longer texts."""


async def read_form(request: Request, limit: int = MAX_BODY) -> QueryParams:
    """Read a form.

    Args:
        request: The request.
        limit: Bytes that its body can have.

    Returns:
        The values of its fields.

    Raises:
        HTTPException: If it is longer.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, "the form is too long")
    return QueryParams(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


class FormPages(ABC):
    """A page that asks people for something and stores what they answer, at one address.

    Args:
        pages: The pages that it is one of.

    Attributes:
        path: Its address.
        max_body: Bytes that a form can have.
    """

    path: ClassVar[str]
    max_body: ClassVar[int] = MAX_BODY

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """The address, for asking and for storing."""
        return [
            Route(self.path, self.ask, methods=["GET"]),
            Route(self.path, self.receive, methods=["POST"]),
        ]

    async def receive(self, request: Request) -> Response:
        """Read the form and store it."""
        form = await read_form(request, self.max_body)
        return await run_in_threadpool(self.store, request, form)

    @abstractmethod
    def ask(self, request: Request) -> Response:
        """Show the page.

        Args:
            request: The request.
        """

    @abstractmethod
    def store(self, request: Request, form: QueryParams) -> Response:
        """Store what was answered, and lead on.

        Args:
            request: The request.
            form: The values of the form's fields.
        """
