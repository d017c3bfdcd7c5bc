"""Make ids of headings and names in any script."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 60
"""Maximum number of characters of an id that is made of a text."""
_KEPT = ("L", "M", "N")
"""Letters, the marks that combine with them, and digits."""


def slug(text: str) -> str:
    """Make an id of a text: its words in lower case, joined by hyphens.

    Args:
        text: A heading or a name. Letters of every script are kept.

    Returns:
        The id; empty if the text has no letter and no digit.
    """
    folded = unicodedata.normalize("NFC", text).lower()
    kept = (c if unicodedata.category(c)[0] in _KEPT else " " for c in folded)
    return "-".join("".join(kept).split())[:MAX_LENGTH].strip("-")
