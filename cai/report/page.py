"""Write ``report.html``: escaped, without scripts or remote loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from cai.evaluate.gold import share_of
from cai.files import write_text
from cai.report import plots
from cai.report.report_data import gather

LONGEST = 3_000
"""Characters of one text that are shown."""


def write_report(
    folder: Path, out: Path | None = None, metrics: dict[str, Any] | None = None
) -> Path:
    """Write the report of a run and return where it is; ``metrics`` are those of its ``metrics.json`` where none are given."""
    report_data = gather(folder, metrics)
    pictures = {
        "rates": plots.rates(report_data.metrics.get("policies", {})),
        "training": plots.training(report_data.training),
        "eval_points": plots.eval_points(report_data.optimised.get("eval_points", [])),
        "calibration": plots.calibration(
            report_data.metrics.get("judge", {}).get("calibration", []), "the truth"
        ),
        "people": plots.calibration(
            report_data.audit.get("human", {}).get("calibration", []), "what people say"
        ),
        "effects": plots.effects(report_data.effects),
    }
    path = out or folder / "report.html"
    write_text(
        path,
        _environment()
        .get_template("page.html.jinja")
        .render(report_data=report_data, plots=pictures),
    )
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "shorten": _shorten,
        "figure": _figure,
        "share_of": share_of,
    }
    return environment


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if not 0 < value < 0.1 else f"{100 * value:.1f} %"


def _shorten(text: str) -> str:
    return (
        text
        if len(text) <= LONGEST
        else f"{text[:LONGEST]} … ({len(text) - LONGEST:,} more characters)"
    )


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
