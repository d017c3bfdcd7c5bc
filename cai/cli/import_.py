"""``cai import``: principles that other tools keep, as files of one's own."""

from __future__ import annotations

from pathlib import Path

from cai.constitution.few_shot import read_few_shot_examples
from cai.constitution.importing import read_principles, write_principles
from cai.errors import InputError, Problem


def import_principles(path: Path, theme: str, to: Path, few_shot: Path | None = None) -> None:
    """Write the principles of a file as principle files, with the worked examples of it or of ``few_shot``, and say what to do with them."""
    found, few_shot_turns = read_principles(path), read_few_shot_examples(few_shot or path)
    if few_shot and not few_shot_turns:
        raise InputError(
            [Problem(str(few_shot), "holds no worked example of critique and revision")]
        )
    constitution = write_principles(found, theme, to, f"From {path.name}", few_shot_turns)
    uses = {
        use: sum(use in imported.texts for imported in found)
        for use in ("critique", "revise", "compare")
    }
    print(
        f"{len(found)} principles: {uses['critique']} critiques, {uses['revise']} revisions, {uses['compare']} questions that compare"
    )
    if few_shot_turns:
        print(f"{len(few_shot_turns)} worked examples of critique and revision")
    print(f"wrote {constitution} and {to / 'principles' / theme}")
    print(f"next: cai check {constitution}")
