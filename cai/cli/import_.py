"""``cai import``: turn the principles of another tool into principle files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.constitution.few_shot import read_few_shot_examples
from cai.constitution.importing import read_principles, write_principles
from cai.errors import InputError, Problem


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="JSON, JSON lines, CSV or parquet file with principles."
        ),
    ],
    theme: Annotated[
        str, typer.Option(help="Folder in principles/, and name of the constitution.")
    ] = "imported",
    to: Annotated[
        Path, typer.Option(help="Folder with principles/ and constitution/ to write to.")
    ] = Path(),
    few_shot: Annotated[
        Path | None,
        typer.Option(help="JSON or text file with few-shot examples of critique and revision."),
    ] = None,
) -> None:
    """Import principles from another tool's file.

    Reads the files of the paper and of llm-swarm, and tables with a column per text. The texts are
    kept byte for byte.

    Example: cai import constitution_anthropic.json --theme anthropic
    """
    principles = read_principles(file)
    examples = read_few_shot_examples(few_shot or file)
    if few_shot and not examples:
        text = "contains no few-shot example of critique and revision"
        raise InputError([Problem(str(few_shot), text)])
    constitution = write_principles(principles, theme, to, f"From {file.name}", examples)
    counts = {
        use: sum(use in principle.texts for principle in principles)
        for use in ("critique", "revise", "compare")
    }
    print(
        f"{len(principles)} principles: {counts['critique']} critiques, "
        f"{counts['revise']} revisions, {counts['compare']} comparisons"
    )
    if examples:
        print(f"{len(examples)} few-shot examples of critique and revision")
    print(f"wrote {constitution} and {to / 'principles' / theme}")
    print(f"next: cai check {constitution}")
