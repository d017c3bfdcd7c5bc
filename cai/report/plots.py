"""The plots of the report, as inline SVG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cai.evaluate.gold import columns, share_of
from cai.report.report_data import Effect

INK, MUTED = "#1f2430", "#8a8f9c"
RED_TEAM, GREEN, AMBER, BLUE = "#c2413b", "#2f855a", "#b7791f", "#2b6cb0"
BARS = (RED_TEAM, BLUE, GREEN, AMBER)
_TOOLTIP = "hover: "
"""What the id of a part with a tooltip begins with."""
_UNSEEN = 0.004
"""The opacity of what cannot be seen, and can still be pointed at."""
MAX_TOOLTIPS = 200
"""Places of a curve that have a tooltip; between them the curve is only drawn."""
MAX_PRINCIPLES = 24
"""Principles that are plotted; the table has all of them."""


def rates(policies: dict[str, Any]) -> Markup:
    """Plot the gold rates of each policy.

    Args:
        policies: The metrics of each policy; one without a rate has no bar.
    """
    shown = columns(policies)
    if not shown:
        return Markup("")
    figure, axes = _axes(8, 2.9)
    step = 0.8 / len(shown)
    for i, (title, column) in enumerate(shown.items()):
        measured = [share_of(metrics, column) for metrics in policies.values()]
        places = [
            x + (i - (len(shown) - 1) / 2) * step for x, share in enumerate(measured) if share
        ]
        heights = [100 * share["value"] for share in measured if share]
        bars = axes.bar(places, heights, width=0.92 * step, color=BARS[i % len(BARS)], label=title)
        axes.bar_label(bars, fmt="%.0f", fontsize=8, color=INK, padding=2)
        named = ((name, share) for name, share in zip(policies, measured, strict=True) if share)
        for bar, (name, share) in zip(bars, named, strict=True):
            interval = f"{share['low']:.1%} to {share['high']:.1%}, n = {share['n']:,}"
            _add_tooltip(bar, f"{name}, {title}: {share['value']:.1%} ({interval})")
    axes.set_xticks(range(len(policies)), [name.replace("_", " ") for name in policies])
    axes.set_ylim(0, 112)
    axes.set_ylabel("% of answers")
    legend = axes.legend(
        frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.18)
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a dollar in a flag is no formula
    return _svg(figure, "Gold rates of each policy")


def training(rows: Sequence[dict[str, float]], links: Mapping[int, str] | None = None) -> Markup:
    """Plot reward and KL over the updates of PPO.

    Args:
        rows: The log of the updates; those without a reward are gaps.
        links: The address that a click at an update leads to, by its number.
    """
    if not rows:
        return Markup("")
    left, right = ("score", "reward"), ("kl", "KL from SL-CAI, nats")
    title = "Reward and KL divergence over the updates of PPO"
    return curves(rows, "update", [left, right], title, links)


def curves(
    rows: Sequence[Mapping[str, float]],
    x: str,
    shown: Sequence[tuple[str, str]],
    title: str,
    links: Mapping[int, str] | None = None,
) -> Markup:
    """Plot one or two metrics over the steps of a training, each with an axis of its own.

    Args:
        rows: The log; a row without a metric is a gap.
        x: The name of the number of a step, which every row has.
        shown: The name and the title of each metric.
        title: What the plot shows.
        links: The address that a click at a step leads to, by its number.
    """
    figure, axes = _axes(8, 2.6)
    steps = [row[x] for row in rows]
    for (name, label), color in zip(shown, (BLUE, AMBER), strict=False):
        side = axes if name == shown[0][0] else axes.twinx()
        side.plot(steps, [row.get(name, math.nan) for row in rows], color=color)
        side.set_ylabel(label, color=color)
        side.spines["top"].set_visible(False)
    axes.set_xlabel(x)
    axes.locator_params(axis="x", integer=True)
    _add_tooltips(axes, rows, x, shown, links or {})
    return _svg(figure, title)


def _add_tooltips(
    axes: Axes,
    rows: Sequence[Mapping[str, float]],
    x: str,
    shown: Sequence[tuple[str, str]],
    links: Mapping[int, str],
) -> None:
    """Put an invisible column at each step, with a tooltip and a link."""
    axes.set_xlim(axes.get_xlim())
    places = rows[:: max(1, -(-len(rows) // MAX_TOOLTIPS))]
    edges = [(a[x] + b[x]) / 2 for a, b in pairwise(places)]
    first, last = places[0][x], places[-1][x]
    edges = [first - (edges[0] - first if edges else 0.5), *edges]
    edges.append(last + (last - edges[-1] if len(places) > 1 else 0.5))
    for row, (start, end) in zip(places, pairwise(edges), strict=True):
        column = axes.axvspan(
            start, end, facecolor=MUTED, edgecolor="none", alpha=_UNSEEN, zorder=5
        )
        values = [f"{name} {row[name]:.4g}" for name, _ in shown if name in row]
        step = int(row[x])
        if step in links:
            column.set_url(links[step])
        _add_tooltip(column, f"{x} {step}: {', '.join(values)}")


def eval_points(rows: Sequence[dict[str, float]]) -> Markup:
    """Plot held-out reward and gold score against the distance from the reference policy.

    Args:
        rows: The evaluations during PPO.
    """
    rows = [row for row in rows if {"eval_gold", "eval_score"} <= set(row)]
    if len(rows) < 2:
        return Markup("")
    figure, axes = _axes(8, 2.6)
    distance = [max(row["eval_kl"], 0.0) ** 0.5 for row in rows]
    axes.plot(distance, [row["eval_score"] for row in rows], color=BLUE, marker="o", markersize=3)
    axes.set_xlabel("distance from SL-CAI: square root of the KL in nats")
    axes.set_ylabel("held-out reward", color=BLUE)
    right = axes.twinx()
    right.plot(distance, [row["eval_gold"] for row in rows], color=GREEN, marker="o", markersize=3)
    for row, place in zip(rows, distance, strict=True):
        values = f"reward {row['eval_score']:.3g}, gold {row['eval_gold']:.3g}"
        (dot,) = axes.plot([place], [row["eval_score"]], color=BLUE, marker="o", markersize=3)
        _add_tooltip(dot, f"update {row['update']:.0f}, KL {row['eval_kl']:.3g}: {values}")
    right.set_ylabel("held-out gold score", color=GREEN)
    right.spines["top"].set_visible(False)
    return _svg(figure, "Held-out reward and gold score against the distance from SL-CAI")


def calibration(bins: Sequence[dict[str, float]], observed: str) -> Markup:
    """Plot the calibration of the judge.

    Args:
        bins: The bins of a reliability diagram.
        observed: What is compared with the judge's probability.
    """
    if not bins:
        return Markup("")
    figure, axes = _axes(3.4, 3.0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    biggest = max(b["n"] for b in bins)
    for b in bins:
        size = 12 + 90 * b["n"] / biggest
        dot = axes.scatter([b["predicted"]], [b["observed"]], s=size, color=BLUE, zorder=3)
        text = f"probability {b['predicted']:.2f}, {observed} {b['observed']:.2f}"
        _add_tooltip(dot, f"{text}, n = {b['n']:,.0f}")
    axes.set_xlabel("probability by the judge")
    axes.set_ylabel(observed)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    return _svg(figure, f"Probability by the judge against the {observed}")


def effects(rows: Sequence[Effect]) -> Markup:
    """Plot how many replies each principle changed and how many labels it decided.

    Args:
        rows: The effects, the largest first.
    """
    shown = list(rows)[:MAX_PRINCIPLES][::-1]
    if not shown:
        return Markup("")
    figure, axes = _axes(8, 0.6 + 0.26 * len(shown))
    places = range(len(shown))
    changed = axes.barh(
        [p + 0.19 for p in places],
        [effect.changed for effect in shown],
        height=0.36,
        color=GREEN,
        label="replies changed",
    )
    decided = axes.barh(
        [p - 0.19 for p in places],
        [effect.decisive for effect in shown],
        height=0.36,
        color=BLUE,
        label="labels decided",
    )
    for effect, green, blue in zip(shown, changed, decided, strict=True):
        _add_tooltip(
            green, f"{effect.principle}: changed {effect.changed:,} of {effect.steps:,} replies"
        )
        _add_tooltip(
            blue, f"{effect.principle}: decided {effect.decisive:,} of {effect.labels:,} labels"
        )
    axes.set_yticks(list(places), [effect.principle for effect in shown], fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure, "Replies changed and labels decided by each principle")


def with_intervals(
    values: Mapping[str, Mapping[str, tuple[float, float]]], x: str, y: str, title: str
) -> Markup:
    """Plot means with the half widths of their intervals, a line for each series.

    Args:
        values: The mean and the half width by series and place on the x axis. If all places are
            numbers, they are drawn to scale.
        x: Title of the x axis.
        y: Title of the y axis.
        title: What the plot shows.
    """
    figure, axes = _axes(6.4, 3.0)
    places = list(dict.fromkeys(place for by_x in values.values() for place in by_x))
    numbers = [number for number in map(_number, places) if number is not None]
    is_scale = len(numbers) == len(places)
    for i, (series, by_x) in enumerate(values.items()):
        color = (BLUE, RED_TEAM, GREEN, AMBER)[i % 4]
        xs = [float(place) if is_scale else float(places.index(place)) for place in by_x]
        means = [mean for mean, _ in by_x.values()]
        halves = [half if math.isfinite(half) else 0.0 for _, half in by_x.values()]
        line = "-" if is_scale else ""
        axes.errorbar(xs, means, halves, fmt=f"o{line}", ms=4, capsize=3, color=color, label=series)
    axes.set_xticks(numbers if is_scale else range(len(places)), places)
    if not is_scale:
        axes.margins(x=0.15)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(axis="y", color="#e6e8ec", linewidth=0.8)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure, title)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure, axes


def _add_tooltip(part: Artist, text: str) -> None:
    """Give a part of a figure a tooltip."""
    part.set_gid(_TOOLTIP + "".join(c for c in text if c.isprintable()))


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as an SVG element with a title, without metadata.

    It has no style of its own but attributes, so that a page may forbid styles within itself.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font has no glyph for some scripts
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL
    )
    text = re.sub(r' style="([^"]*)"', _as_attributes, text)
    text = re.sub(rf'<g id="{_TOOLTIP}([^"]*)">', r'<g class="hover"><title>\1</title>', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    # a link is reached by pointing: a page offers another way for keys, and not a hundred stops
    link = r'<a href="\2" aria-label="\1" tabindex="-1"><title>\1</title>'
    text = re.sub(r'<title>([^<]*)</title>\s*<a xlink:href="([^"]*)" target="_blank">', link, text)
    role = "group" if "<a " in text else "img"
    attributes = f'stroke-linejoin="round" role="{role}" aria-label="{title}"'
    labeled = re.sub(r"(<svg[^>]*)>", rf"\1 {attributes}>", text, count=1)
    return Markup(labeled)  # noqa: S704  matplotlib makes it from numbers and escapes its labels


def _as_attributes(style: re.Match[str]) -> str:
    """Write the properties of a style as attributes."""
    pairs = [part.split(":", 1) for part in style[1].split(";") if part.strip()]
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)
