"""The points of an experiment, kept for each seed, so that a stopped command goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cai.files import read_object, write_json, write_text
from cai.keys import digest
from cai.paper.experiment import Experiment
from cai.paper.measures import MEASURES, Point
from cai.paper.page import section
from cai.paper.runs import Runs
from cai.paper.summary import cells, half_width, over_seeds
from cai.report.plots import with_intervals


class Result(NamedTuple):
    """What an experiment found for one seed.

    Attributes:
        points: What was measured.
        seconds: Processor time that it took; runs that were done before take none.
    """

    points: list[Point]
    seconds: float


def measure(
    name: str,
    experiment: Experiment,
    runs: Runs,
    seed: int,
    file: Path,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Do the runs of an experiment for one seed and measure them, unless that is done.

    Args:
        name: The name of the experiment.
        experiment: The experiment.
        runs: Does the runs.
        seed: The seed.
        file: Where the points are kept.
        say: Called with a line before each run that is not known to be done.
    """
    key = digest(["seconds", name, experiment.model_dump(mode="json"), seed])
    kept = read_object(file)
    if kept is not None and kept.get("key") == key:
        return Result([Point(*point) for point in kept["points"]], kept["seconds"])
    started = time.process_time()
    done = {}
    for arm_name, arm in experiment.arms.items():
        say(f"{name}, seed {seed}: {arm_name}")
        done[arm_name] = runs.run(arm, experiment.settings, seed, experiment.until)
    points = MEASURES[experiment.measure](experiment, done)
    seconds = round(time.process_time() - started)
    write_json(file, {"key": key, "seed": seed, "points": points, "seconds": seconds})
    return Result(points, seconds)


def write_section(
    name: str, experiment: Experiment, results: Mapping[int, Result], folder: Path
) -> str:
    """Write the plot of an experiment and return its section of the page.

    Args:
        name: The name of the experiment.
        experiment: The experiment.
        results: The result of each seed.
        folder: Where the plot is written.
    """
    by_seed = {seed: result.points for seed, result in results.items()}
    values: dict[str, dict[str, tuple[float, float]]] = {}
    for series, by_x in cells(by_seed).items():
        means = {x: over_seeds(of_seeds) for x, of_seeds in by_x.items()}
        values[series] = {x: (mean.value, half_width(mean)) for x, mean in means.items()}
    plot = with_intervals(values, experiment.x, experiment.y, experiment.title)
    write_text(folder / f"{name}.svg", str(plot))
    return section(name, experiment, by_seed, sum(result.seconds for result in results.values()))
