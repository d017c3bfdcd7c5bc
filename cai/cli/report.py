"""``cai report``: the report of a run, also of one that was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.cli.folders import RunFolder, run_folder
from cai.errors import InputError, Problem


def report(
    folder: RunFolder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; by default report.html in the run."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder to write instead: the pages of cai studio, to read from disk."),
    ] = None,
    max_records: Annotated[
        int | None,
        typer.Option(min=1, help="Records of each stage in the bundle, the first ones."),
    ] = None,
) -> None:
    """Write the report of a run as one HTML file.

    It is written from the stages that are done, also if the run was stopped. With
    --bundle FOLDER every record is written as pages; open FOLDER/index.html in a browser.

    Example: cai report runs/quickstart
    """
    folder = run_folder(folder)
    if bundle is not None:
        if out is not None:
            raise InputError([Problem("--out", "a bundle is written to the folder of --bundle")])
        _write_bundle(folder, bundle, max_records)
        return
    if max_records is not None:
        raise InputError([Problem("--max-records", "is for a bundle; add --bundle FOLDER")])
    from cai.pipeline.metrics import read_metrics
    from cai.report.page import write_report

    print(write_report(folder, out, read_metrics(folder)))


def _write_bundle(folder: Path, out: Path, max_records: int | None) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from cai.studio.bundle import write_bundle

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("pages", total=None)
        written = write_bundle(
            folder,
            out,
            max_records,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, (count, total) in written.records.items():
        if count < total:
            print(f"{name}: the first {count:,} of {total:,} records")
    size = written.size / 1e6
    print(f"{out / 'index.html'} ({written.files:,} files, {size:,.1f} MB)")
