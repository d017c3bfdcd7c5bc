"""``cai diff``: what changed between two constitutions, and what that does to a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cai.cli.reporter import safe
from cai.config import load_config
from cai.constitution.diff import (
    Change,
    ExampleChange,
    changes,
    example_changes,
    template_changes,
)
from cai.pipeline.provenance import setting_changes
from cai.pipeline.rejudge import Effects, effects, resolve_constitution
from cai.pipeline.run import CONFIG

MAX_EXAMPLES = 3
"""Revisions and labels that are printed in full."""


def diff(
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD", help="A constitution (name or file), or the folder of a run."
        ),
    ],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The constitution to compare it with.")],
    on: Annotated[
        Path | None,
        typer.Option(help="A run: also show how NEW changes its revisions and labels."),
    ] = None,
) -> None:
    """Show what an edit of a constitution changes.

    Prints the texts, weights, examples and templates that differ and, of two runs, the settings,
    models included. With --on, it also asks the models of that run what they would answer now; only
    requests that read an edited text are new.

    Example: cai diff runs/quickstart reference --on runs/quickstart
    """
    before = resolve_constitution(old)
    after = resolve_constitution(new)
    print_constitution_changes(
        changes(before, after), example_changes(before, after), template_changes(before, after)
    )
    for line in _settings(Path(old), Path(new)):
        print(f"{'setting':<9}{line}")
    if on is not None:
        _print_effects(effects(on, after))


def print_constitution_changes(
    principles: Sequence[Change], examples: Sequence[ExampleChange], templates: Sequence[str]
) -> None:
    """Print how two constitutions differ, or that they do not.

    Args:
        principles: The principles that changed.
        examples: The examples that changed.
        templates: The templates that changed.
    """
    for change in principles:
        weights = "".join(
            f"; {use} weight {old_weight:g} -> {new_weight:g}"
            for use, old_weight, new_weight in change.weights
        )
        print(f"{change.kind:<9}{change.principle}{weights}")
        for text in change.texts:
            print(f"    {text.text}: {text.marked().strip()}")
    for example in examples:
        print(f"{example.kind:<9}{example.principle}")
        for prompt in example.removed:
            print(f"    [-{safe(prompt)}-]")
        for prompt in example.added:
            print(f"    {{+{safe(prompt)}+}}")
    for name in templates:
        print(f"{'template':<9}templates/{name}.jinja")
    if not principles and not examples and not templates:
        print("no text, weight, example or template has changed")


def _settings(old: Path, new: Path) -> list[str]:
    """The settings in which two runs differ; none if one of them is no run."""
    if not all((folder / CONFIG).is_file() for folder in (old, new)):
        return []
    return setting_changes(load_config(old / CONFIG), load_config(new / CONFIG))


def _print_effects(effect: Effects) -> None:
    changed = [chain for chain in effect.touched_chains if chain.moved]
    print(
        f"\nrevisions: {len(effect.touched_chains):,} of {effect.chains:,} read an edited text, "
        f"{len(changed):,} of them change"
    )
    for chain in changed[:MAX_EXAMPLES]:
        step = chain.after.steps[chain.first]
        print(f"  {safe(chain.before.sample.prompt.text)}")
        print(f"    round {chain.first + 1}, by {step.principle}: {safe(step.critique)}")
        print(f"    before: {safe(chain.before.final)}")
        print(f"    after:  {safe(chain.after.final)}")
    flipped = [label for label in effect.touched_labels if label.flipped]
    print(
        f"labels: {len(effect.touched_labels):,} of {effect.labels:,} read an edited text, "
        f"{len(flipped):,} of them flip"
    )
    for label in sorted(effect.touched_labels, key=lambda label: -label.moved)[:MAX_EXAMPLES]:
        before, after = label.before, label.after
        print(
            f"  {safe(before.comparison.prompt.text)}: "
            f"{_probability(before.p_first)} -> {_probability(after.p_first)}"
        )
        print(f"    first:  {safe(before.comparison.first)}")
        print(f"    second: {safe(before.comparison.second)}")
    print(f"model requests: {effect.requests:,}; answered from the cache: {effect.cached:,}")


def _probability(p_first: float | None) -> str:
    return "no label" if p_first is None else f"{p_first:.2f}"
