"""``cai settings``: every setting of a run or training file."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cai.config import RunConfig, TrainingConfig
from cai.config.describe import settings_text
from cai.errors import InputError, Problem, did_you_mean


def settings(
    section: Annotated[
        str | None,
        typer.Argument(metavar="SECTION", help="A section or key, such as judge; by default all."),
    ] = None,
    *,
    training: Annotated[
        bool,
        typer.Option("--training", help="Settings of the file of cai sft, reward, ppo and dpo."),
    ] = False,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON schema, for editors.")
    ] = False,
) -> None:
    """Print every setting with its meaning.

    The output is a YAML file to start from: each setting with its default and the values it takes.

    Example: cai settings judge
    """
    kind = TrainingConfig if training else RunConfig
    if section and section not in kind.model_fields:
        hint = did_you_mean(section, kind.model_fields)
        raise InputError([Problem(section, f"there is no such section{hint}")])
    if json_schema:
        print(json.dumps(kind.model_json_schema(), indent=2))
        return
    print(settings_text(kind, section or ""), end="")
