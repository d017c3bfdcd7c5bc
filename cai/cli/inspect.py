"""``cai inspect``: what ``cai`` does with a model."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from cai.cli.reporter import safe
from cai.errors import InputError
from cai.models.names import find_model

MARKS = {"ok": "ok      ", "adapted": "adapted ", "refused": "REFUSED "}


def inspect(
    model: Annotated[str, typer.Argument(help="reference, a folder, a GGUF file or a hub id.")],
    chat_format: Annotated[
        str, typer.Option(help="chat, transcript or plain; by default what suits the model.")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try a model and show what will be done with it.

    Prints a conversation as the model reads it, and what was found by trying: where answers end,
    how conversations are adapted to the chat template, and what is worked around. The exit code is
    3 if the model cannot be used.

    Example: cai inspect reference
    """
    from cai.models.inspection import inspect_model

    inspection = inspect_model(find_model(model), chat_format)
    if as_json:
        values = dataclasses.asdict(inspection)
        values["checks"] = [check._asdict() for check in inspection.checks]
        print(json.dumps(values, ensure_ascii=False, indent=1))
    else:
        print(f"{model}: {inspection.summary or 'cannot be opened'}\n")
        if inspection.prompt:
            print("what it reads\n")
            print(_indented(inspection.prompt))
            print("\nwhat an answer adds, with its end\n")
            print(_indented(inspection.answer) + "\n")
        width = max(len(check.name) for check in inspection.checks)
        for check in inspection.checks:
            print(f"{MARKS[check.outcome]} {check.name.ljust(width)}  {safe(check.detail)}")
    raise typer.Exit(0 if inspection.is_usable else InputError.exit_code)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in safe(text).splitlines())
