"""Check that the built site works without a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

logger = logging.getLogger(__name__)
# what a browser loads by itself; links that a reader follows may lead to other sites
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*stylesheet[^>]*\bhref=\"(?:https?:)?//"
)


def check_offline(app: Sphinx, exception: Exception | None) -> None:
    """Warn of pages that load a script, style or image from another site."""
    if exception or app.builder.format != "html":
        return
    pages = [
        page.name
        for page in Path(app.outdir).rglob("*.html")
        if LOADED.search(page.read_text(encoding="utf-8"))
    ]
    if pages:
        logger.warning("loads files from another site: %s", ", ".join(pages))
