"""``cai import``: principles that other tools keep, as files of one's own."""

from __future__ import annotations

from pathlib import Path

from cai.constitution.importing import read_principles, write_principles
from cai.constitution.worked import read_worked
from cai.errors import InputError, Problem


def bring(path: Path, theme: str, to: Path, shots: Path | None = None) -> None:
    """Write the principles of a file as principle files, with the worked examples of it or of ``shots``, and say what to do with them."""
    found, worked = read_principles(path), read_worked(shots or path)
    if shots and not worked:
        raise InputError([Problem(str(shots), "holds no worked example of critique and revision")])
    constitution = write_principles(found, theme, to, f"From {path.name}", worked)
    uses = {use: sum(use in brought.texts for brought in found) for use in ("critique", "revise", "compare")}
    print(f"{len(found)} principles: {uses['critique']} critiques, {uses['revise']} revisions, {uses['compare']} questions that compare")
    if worked:
        print(f"{len(worked)} worked examples of critique and revision")
    print(f"wrote {constitution} and {to / 'principles' / theme}")
    print(f"next: cai check {constitution}")
