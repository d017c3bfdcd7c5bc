"""The result of an experiment as a Markdown section with a table and a plot."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from cai.evaluate.intervals import Estimate
from cai.paper.experiment import Experiment
from cai.paper.measures import Point
from cai.paper.summary import Cells, cells, half_width, over_seeds, verdict

WRAPPED: dict[str, Any] = {"width": 100, "break_long_words": False, "break_on_hyphens": False}


def section(
    name: str, experiment: Experiment, by_seed: Mapping[int, Sequence[Point]], seconds: float
) -> str:
    """Write the section of an experiment.

    Args:
        name: Its name, which is also that of its plot.
        experiment: The experiment.
        by_seed: The points of each seed.
        seconds: Processor time of all seeds.
    """
    lines = [
        f"## {experiment.title}",
        "",
        textwrap.fill(f"*{experiment.source}.* {experiment.about}", **WRAPPED),
        "",
        f"![{experiment.title}]({name}.svg)",
        "",
        table(experiment.x, cells(by_seed)),
        "",
    ]
    for finding in experiment.findings:
        sentence = f"- {verdict(finding, by_seed)}"
        lines.append(textwrap.fill(sentence, **WRAPPED, subsequent_indent="  "))
    seeds = ", ".join(map(str, by_seed))
    lines += ["", f"`cai paper {name}`, seeds {seeds}; {seconds:,.0f} s of processor time.", ""]
    return "\n".join(lines)


def table(x: str, values: Cells) -> str:
    """Write means and intervals as a Markdown table: a row for each place on the x axis.

    Args:
        x: Title of the x axis.
        values: The values by series and x.
    """
    places = list(dict.fromkeys(place for by_x in values.values() for place in by_x))
    lines = [f"| {x} | {' | '.join(values)} |", f"|---|{'---|' * len(values)}"]
    for place in places:
        shown = [
            text_of(over_seeds(by_x[place])) if place in by_x else "" for by_x in values.values()
        ]
        lines.append(f"| {place} | {' | '.join(shown)} |")
    return "\n".join(lines)


def text_of(estimate: Estimate) -> str:
    """Write a mean and the half width of its interval.

    Args:
        estimate: The mean.
    """
    digits, half = 0 if abs(estimate.value) >= 100 else 2, half_width(estimate)
    return f"{estimate.value:.{digits}f}" + (f" ± {half:.{digits}f}" if math.isfinite(half) else "")
