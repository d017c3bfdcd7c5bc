"""``cai import``: principles that other tools keep, as files of one's own."""

from __future__ import annotations

from pathlib import Path

from cai.constitution.importing import read_principles, write_principles


def bring(path: Path, theme: str, to: Path) -> None:
    """Write the principles of a file as principle files, and say what to do with them."""
    found = read_principles(path)
    constitution = write_principles(found, theme, to, f"From {path.name}")
    uses = {use: sum(use in brought.texts for brought in found) for use in ("critique", "revise", "compare")}
    print(f"{len(found)} principles: {uses['critique']} critiques, {uses['revise']} revisions, {uses['compare']} questions that compare")
    print(f"wrote {constitution} and {to / 'principles' / theme}")
    print(f"next: cai check {constitution}")
