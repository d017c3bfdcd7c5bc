"""What a browser sends by POST."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request

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
