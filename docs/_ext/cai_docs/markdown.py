"""Write the program's texts as Markdown."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Escape all Markdown but code in backticks."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_<>\[\]|])", r"\\\1", part)
        for part in parts
    )
