"""Audit of revisions before a policy is fine-tuned on them, from the records alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from typing import Any

from cai.evaluate.statistics import proportion
from cai.records import Revision
from cai.words import words

FAR = 5
"""A row with this many times the words of the draft, or with fewer by this factor, is far from it
in length."""

SETTINGS = {
    "invalid": "max_invalid_revisions",
    "unchanged": "max_unchanged_revisions",
    "far_shorter": "max_far_lengths",
    "far_longer": "max_far_lengths",
}
"""The limit of each proportion that has one, in the section ``audit``."""


class RevisionAudit:
    """Measures revisions one after the other, so that not all of them are in memory."""

    def __init__(self) -> None:
        self._steps: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._ratios: list[float] = []

    def add(self, revision: Revision) -> None:
        """Measure one more revision."""
        for step in revision.steps:
            self._steps["all"] += 1
            self._steps[step.status] += 1
            self._steps["cleaned"] += step.status == "ok" and bool(step.removed)
        if revision.steps and not any(step.status == "ok" for step in revision.steps):
            self._rows["none"] += 1
        elif revision.steps:
            draft, final = revision.sample.response, revision.final
            ratio = (len(words(final)) + 1) / (len(words(draft)) + 1)
            self._rows["row"] += 1
            self._rows["unchanged"] += final.split() == draft.split()
            self._rows["shorter"] += ratio * FAR < 1
            self._rows["longer"] += ratio > FAR
            self._ratios.append(ratio)

    def metrics(self) -> dict[str, Any]:
        """Return what was measured.

        Returns:
            Proportions of the critique and revision steps: ``cut`` at ``max_tokens``; ``invalid``,
            such as a repetition of the request; ``failed`` for another reason; ``cleaned`` of words
            around the revision, of those that succeeded. Proportions of the revised answers:
            ``without_row`` if no step succeeded; and of the others, which are the rows to train on,
            ``unchanged`` since the draft, ``far_shorter`` and ``far_longer`` than it. Also the
            median ``length_ratio`` of row and draft, in words, if there are any rows.
        """
        steps, rows = self._steps, self._rows
        known = steps["ok"] + steps["truncated"] + steps["invalid"]
        metrics: dict[str, Any] = {
            "cut": proportion(steps["truncated"], steps["all"]),
            "invalid": proportion(steps["invalid"], steps["all"]),
            "failed": proportion(steps["all"] - known, steps["all"]),
            "cleaned": proportion(steps["cleaned"], steps["ok"]),
            "without_row": proportion(rows["none"], rows["none"] + rows["row"]),
            "unchanged": proportion(rows["unchanged"], rows["row"]),
            "far_shorter": proportion(rows["shorter"], rows["row"]),
            "far_longer": proportion(rows["longer"], rows["row"]),
        }
        if self._ratios:
            metrics["length_ratio"] = statistics.median(self._ratios)
        return metrics


def revision_failures(metrics: Mapping[str, Any], settings: Mapping[str, float]) -> list[str]:
    """Explain why revisions should not be trained on.

    Args:
        metrics: What :class:`RevisionAudit` measured.
        settings: The limits, by the names of the ``audit`` section.

    Returns:
        One sentence for each limit that the whole interval is beyond.
    """
    lengths = f"{{value}} of the revised answers have {FAR} times {{words}} words than their drafts"
    limits = (
        ("invalid", "{value} of the rounds wrote something else than a rewritten answer"),
        ("unchanged", "{value} of the revised answers are their drafts"),
        ("far_shorter", lengths.replace("{words}", "fewer")),
        ("far_longer", lengths.replace("{words}", "more")),
    )
    failures = []
    for name, text in limits:
        share, setting = metrics[name], SETTINGS[name]
        if share["n"] and share["low"] > settings[setting]:
            value = format(share["value"], ".0%")
            failures.append(f"{text.format(value=value)} ({setting} {settings[setting]:.0%})")
    return failures
