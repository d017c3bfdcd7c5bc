"""Change the labels of a run, to see what a reward model and a policy make of worse or better ones.

The stage ``judge`` counts as finished with the changed labels, so that the stages after it are done
again with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai.evaluate.gold import GoldMetrics, goodness
from cai.files import read_records, write_records
from cai.keys import uniform
from cai.paper.experiment import Labels
from cai.pipeline.manifest import read_manifest, write_manifest
from cai.records import Preference
from cai.ties import is_near_tie

CLAMP = 0.4, 0.6
"""The range that the paper clamps the labels of chain-of-thought judges to."""


def relabel(folder: Path, labels: Labels, gold: GoldMetrics, seed: int) -> None:
    """Change the labels of a finished stage ``judge``, unless they are changed already.

    Args:
        folder: The folder of the stage.
        labels: How they are changed; the manifest of the stage says so afterwards.
        gold: Knows the truth.
        seed: Random seed of the choice of the labels that are flipped or replaced.
    """
    manifest = read_manifest(folder)
    assert manifest is not None, "the labels come first"
    change = labels.model_dump()
    if manifest.metrics.get("relabeled") == change:
        return
    records = folder / "records.jsonl"
    write_records(records, relabeled(read_records(records, Preference), labels, gold, seed))
    write_manifest(
        folder,
        manifest.inputs,
        manifest.constitution,
        {**manifest.metrics, "relabeled": change},
        manifest.failures,
        manifest.seconds,
    )


def relabeled(
    preferences: Sequence[Preference], labels: Labels, gold: GoldMetrics, seed: int
) -> list[Preference]:
    """Return preferences with changed labels.

    Args:
        preferences: The preferences; those without a label stay as they are.
        labels: How they are changed.
        gold: Knows the truth.
        seed: Random seed of the choice of the labels that are flipped or replaced.
    """
    return [_relabeled(preference, labels, gold, seed) for preference in preferences]


def _relabeled(preference: Preference, labels: Labels, gold: GoldMetrics, seed: int) -> Preference:
    p_first = preference.p_first
    chosen = uniform("relabel", seed, preference.comparison.id) < labels.share
    if p_first is None or not chosen:
        return preference
    if labels.kind == "hard":
        p_first = 0.5 if is_near_tie(p_first) else float(p_first > 0.5)
    elif labels.kind == "clamped":
        p_first = min(max(p_first, CLAMP[0]), CLAMP[1])
    elif labels.kind == "flipped":
        p_first = 1 - p_first
    else:
        true = true_label(preference, gold)
        p_first = p_first if true is None else true
    return preference.model_copy(update={"p_first": p_first})


def true_label(preference: Preference, gold: GoldMetrics) -> float | None:
    """Return the label of somebody who knows the truth.

    Args:
        preference: The pair.
        gold: Knows the truth.

    Returns:
        1 if the first answer is better, 0 if the second one is, one half if they are equally good,
        None if that is not known.
    """
    pair = preference.comparison
    first, second = (goodness(gold, pair.prompt, text) for text in (pair.first, pair.second))
    if first is None or second is None:
        return None
    return 0.5 if first == second else float(first > second)
