"""The points of an experiment, kept for each seed, so that a stopped command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cai.files import read_object, write_json, write_text
from cai.keys import digest
from cai.paper.experiment import Experiment
from cai.paper.measures import MEASURES, Point
from cai.paper.page import section
from cai.paper.runs import Runs
from cai.paper.summary import cells, half_width, over_seeds
from cai.report.plots import with_intervals

Results = dict[int, list[Point]]
"""The points of each seed."""


def measure(
    name: str,
    experiment: Experiment,
    runs: Runs,
    seed: int,
    file: Path,
    say: Callable[[str], None] = lambda _: None,
) -> list[Point]:
    """Do the runs of an experiment for one seed and measure them, unless that is done.

    Args:
        name: The name of the experiment.
        experiment: The experiment.
        runs: Does the runs.
        seed: The seed.
        file: Where the points are kept.
        say: Called with a line before each run that is not known to be done.
    """
    key = digest([name, experiment.model_dump(mode="json"), seed])
    kept = read_object(file)
    if kept is not None and kept.get("key") == key:
        return [Point(*point) for point in kept["points"]]
    done = {}
    for arm_name, arm in experiment.arms.items():
        say(f"{name}, seed {seed}: {arm_name}")
        done[arm_name] = runs.run(arm, experiment.settings, seed, experiment.until)
    points = MEASURES[experiment.measure](experiment, done)
    write_json(file, {"key": key, "seed": seed, "points": points})
    return points


def write_section(name: str, experiment: Experiment, results: Results, folder: Path) -> str:
    """Write the plot of an experiment and return its section of the page.

    Args:
        name: The name of the experiment.
        experiment: The experiment.
        results: The points of each seed.
        folder: Where the plot is written.
    """
    values: dict[str, dict[str, tuple[float, float]]] = {}
    for series, by_x in cells(results).items():
        means = {x: over_seeds(of_seeds) for x, of_seeds in by_x.items()}
        values[series] = {x: (mean.value, half_width(mean)) for x, mean in means.items()}
    plot = with_intervals(values, experiment.x, experiment.y, experiment.title)
    write_text(folder / f"{name}.svg", str(plot))
    return section(name, experiment, results)
