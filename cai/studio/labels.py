"""Labels of people: a file of preferences in the run, which ``reward.human`` reads as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cai.keys import uniform
from cai.records import Comparison
from cai.studio.json_lines import JsonLines

LABELS = "human_labels.jsonl"
"""The file of a run that holds the labels of people."""
Choice = Literal["left", "right", "tie"]
P_CHOSEN = {"left": 1.0, "right": 1.0, "tie": 0.5}


def is_swapped(pair: str, rater: str) -> bool:
    """Whether a rater sees the second answer of a comparison on the left.

    Args:
        pair: Id of the comparison.
        rater: Name of the rater.
    """
    return uniform("label", pair, rater) < 0.5


def make_row(comparison: Comparison, choice: Choice, rater: str, note: str = "") -> dict[str, Any]:
    """Make the row of a label.

    Args:
        comparison: The two answers.
        choice: The one that the rater prefers, by the side where it was shown.
        rater: Name of the rater.
        note: What the rater remarked.
    """
    answers = (comparison.first, comparison.second)
    is_first = (choice == "right") == is_swapped(comparison.id, rater)
    chosen, rejected = answers if is_first else answers[::-1]
    return {
        "prompt": [message.model_dump() for message in comparison.prompt.messages],
        "chosen": chosen,
        "rejected": rejected,
        "p_chosen": P_CHOSEN[choice],
        "source": "human",
        "rater": rater,
        "note": note,
        "pair": comparison.id,
        "p_first": 0.5 if choice == "tie" else float(is_first),
    }


class LabelFile(JsonLines):
    """The labels of people in a run. Several processes may add to it.

    Args:
        path: The file; it is made with the first label.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _is_label, "a label")

    def by_rater(self, rater: str) -> dict[str, dict[str, Any]]:
        """The labels of a rater by the id of the comparison.

        Args:
            rater: Name of the rater.
        """
        return {row["pair"]: row for row in self.rows() if row["rater"] == rater}

    def add(self, row: Mapping[str, Any]) -> bool:
        """Add a label, unless its rater has labeled the comparison before.

        Args:
            row: The label, from :func:`make_row`.

        Returns:
            Whether it was added.

        Raises:
            LimitReached: If the file cannot be written.
        """
        return self.append(row, key=lambda one: (one["rater"], one["pair"]))

    def undo(self, rater: str) -> dict[str, Any] | None:
        """Remove the last label of a rater.

        Args:
            rater: Name of the rater.

        Returns:
            The label; None if the rater has none.
        """
        removed = self.remove(
            lambda rows: [i for i, row in enumerate(rows) if row["rater"] == rater][-1:]
        )
        return removed[0] if removed else None


def _is_label(row: Mapping[str, Any]) -> bool:
    """Whether a row is one that :func:`make_row` made."""
    names = all(isinstance(row.get(name), str) for name in ("pair", "rater"))
    return names and row.get("p_first") in (0, 0.5, 1)
