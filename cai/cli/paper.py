"""``cai paper``: experiments of the paper in small, on the reference world."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cai.cli.folders import RUNS

PAGE = "index.md"
HEADER = """# The paper in small

Experiments of Constitutional AI (Bai et al. 2022, arXiv 2212.08073) and of later papers, repeated
on the reference world, where the truth about every answer is known. Values are means over seeds
with 95 % intervals by Student's t, from 0 to 1 unless the axis says otherwise. A finding shows if
the interval of the difference, paired by seed, lies on its side of zero. Written by:

```bash
cai paper {experiments} --seeds {seeds} --out {out}
```
"""


def paper(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPERIMENT",
            help="Names or files of experiments, or all; without any, they are listed. Several are "
            "written as one page.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds; the first one is 0.")] = 3,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the page and its plots.")
    ] = RUNS / "paper",
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of the runs, which experiments share.")
    ] = RUNS / "paper",
) -> None:
    """Repeat a figure of the paper on the reference world.

    Each experiment compares a few runs, over several seeds, and says whether the paper's finding
    shows. Stopped at any moment, the same command goes on.

    Example: cai paper fig7
    """
    from cai.paper.experiment import load_experiment, names

    if not experiments:
        for name in names():
            print(f"{name:<16}{load_experiment(name).title}")
        return
    from cai.files import write_text

    wanted = names() if experiments == ["all"] else experiments
    sections = [_section(name, seeds, out, runs) for name in wanted]
    if len(wanted) > 1:
        header = HEADER.format(experiments=" ".join(experiments), seeds=seeds, out=out)
        write_text(out / PAGE, "\n".join([header, *sections]))
        print(f"page: {out / PAGE}")
    else:
        print(f"\n{sections[0]}\nplot: {out / Path(wanted[0]).stem}.svg")


def _section(name: str, seeds: int, out: Path, folder: Path) -> str:
    """Do an experiment and return its section."""
    from cai.paper.experiment import load_experiment
    from cai.paper.results import measure, write_section
    from cai.paper.runs import Runs
    from cai.pipeline.reporter import NullReporter

    loaded = load_experiment(name)
    runs = Runs(folder, NullReporter())
    results = {}
    for seed in range(seeds):
        started = time.monotonic()
        file = folder / "results" / f"{Path(name).stem}-seed{seed}.json"
        results[seed] = measure(name, loaded, runs, seed, file, partial(print, flush=True))
        print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    return write_section(Path(name).stem, loaded, results, out)
