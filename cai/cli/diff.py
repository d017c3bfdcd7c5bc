"""``cai diff``: what changed between two constitutions, and what that does to a run."""

from __future__ import annotations

from pathlib import Path

from cai.cli.reporter import safe
from cai.constitution.diff import changes
from cai.pipeline.rejudge import Effects, effects, resolve_constitution

SHOWN = 3


def show_diff(old: str, new: str, on: Path | None) -> None:
    """Print the changed texts and weights, and with ``on`` the revisions and labels of that run that would change."""
    before, after = resolve_constitution(old), resolve_constitution(new)
    found = changes(before, after)
    for change in found:
        moved = "".join(f"; {use} weight {a:g} -> {b:g}" for use, a, b in change.weights)
        print(f"{change.kind:<9}{change.principle}{moved}")
        for text in change.texts:
            print(f"    {text.text}: {text.marked().strip()}")
    if not found:
        print("nothing that a model reads or that is drawn has changed")
    if on is not None:
        _print(effects(on, after))


def _print(found: Effects) -> None:
    moved = [c for c in found.touched_chains if c.moved]
    flipped = [row for row in found.touched_labels if row.flipped]
    print(
        f"\nrevisions: {len(found.touched_chains):,} of {found.chains:,} chains are touched, {len(moved):,} come out otherwise"
    )
    for chain in moved[:SHOWN]:
        step = chain.after.steps[chain.first]
        print(
            f"  {safe(chain.before.sample.prompt.text)}\n    round {chain.first + 1}, by {step.principle}: {safe(step.critique)}"
        )
        print(f"    before: {safe(chain.before.final)}\n    after:  {safe(chain.after.final)}")
    print(
        f"labels: {len(found.touched_labels):,} of {found.labels:,} are touched, {len(flipped):,} turn round"
    )
    for row in sorted(found.touched_labels, key=lambda row: -row.moved)[:SHOWN]:
        print(
            f"  {safe(row.before.comparison.prompt.text)}: {_shown(row.before.p_first)} -> {_shown(row.after.p_first)}"
        )
        print(
            f"    first:  {safe(row.before.comparison.first)}\n    second: {safe(row.before.comparison.second)}"
        )
    print(f"model calls made: {found.requests:,}; remembered: {found.ptx_rows:,}")


def _shown(p: float | None) -> str:
    return "no label" if p is None else f"{p:.2f}"
