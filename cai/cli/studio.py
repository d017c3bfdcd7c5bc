"""``cai studio``: read runs, and label their answers, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cai.cli.folders import run_folder
from cai.errors import InputError


def studio(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs; by default the newest in runs/."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port on this machine; 0: any that is free.")
    ] = 8765,
) -> None:
    """Read runs in the browser, and label pairs of answers.

    Prints an address that only this machine can open, and serves it until Ctrl-C.

    Example: cai studio runs/quickstart
    """
    try:
        from cai.studio.server import serve
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise InputError(
            f"cai studio needs {package}, which is not installed: pip install 'cai[studio]'"
        ) from None
    named = [run_folder(folder) for folder in folders] if folders else [run_folder(None)]
    serve(named, port, lambda address: print(f"open {address}\nCtrl-C ends it", flush=True))
