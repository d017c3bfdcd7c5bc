"""``cai report``: the report of a run, also of one that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.cli.folders import RunFolder, run_folder


def report(
    folder: RunFolder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; by default report.html in the run."),
    ] = None,
) -> None:
    """Write the report of a run as one HTML file.

    It is written from the stages that are done, also if the run was stopped.

    Example: cai report runs/quickstart
    """
    from cai.pipeline.metrics import read_metrics
    from cai.report.page import write_report

    folder = run_folder(folder)
    print(write_report(folder, out, read_metrics(folder)))
