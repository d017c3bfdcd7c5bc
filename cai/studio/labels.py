"""Labels of people: a file of preferences in the run, which ``reward.human`` reads as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cai.keys import uniform
from cai.records import Comparison
from cai.studio.json_lines import JsonLines

LABELS = "human_labels.jsonl"
"""The file of a run that holds the labels of people."""
Choice = Literal["left", "right", "tie"]


def is_swapped(pair: str, rater: str) -> bool:
    """Whether a rater sees the second answer of a comparison on the left.

    Args:
        pair: Id of the comparison.
        rater: Name of the rater.
    """
    return uniform("label", pair, rater) < 0.5


def make_row(
    comparison: Comparison, choice: Choice, rater: str, note: str = "", principle: str = ""
) -> dict[str, Any]:
    """Make the row of a label.

    Args:
        comparison: The two answers.
        choice: The one that the rater prefers, by the side where it was shown.
        rater: Name of the rater.
        note: What the rater remarked.
        principle: Id of the principle that the rater was asked by; empty for a label overall.
    """
    is_first = (choice == "right") == is_swapped(comparison.id, rater)
    p_first = 0.5 if choice == "tie" else float(is_first)
    return row_of(comparison, p_first, rater, note=note, principle=principle)


def row_of(
    comparison: Comparison,
    p_first: float,
    rater: str,
    *,
    note: str = "",
    principle: str = "",
    group: str = "",
) -> dict[str, Any]:
    """Make the row of a label, whichever way it was given.

    Args:
        comparison: The two answers.
        p_first: 1 if the first one is better, 0 if the second one is, one half if neither is.
        rater: Name of the rater.
        note: What the rater remarked.
        principle: Id of the principle that the rater was asked by; empty for a label overall.
        group: Id of the prompt whose answers were ranked together; empty for a single pair.
    """
    is_second = p_first < 0.5
    better, worse = (comparison.first, comparison.second)[:: -1 if is_second else 1]
    return {
        "prompt": [message.model_dump() for message in comparison.prompt.messages],
        "chosen": better,
        "rejected": worse,
        "p_chosen": max(p_first, 1 - p_first),
        "source": "human",
        "rater": rater,
        "principle": principle,
        "group": group,
        "note": note,
        "pair": comparison.id,
        "p_first": p_first,
    }


class LabelFile(JsonLines):
    """The labels of people in a run. Several processes may add to it.

    Args:
        path: The file; it is made with the first label.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _is_label, "a label")

    def by_rater(self, rater: str, principle: str = "") -> dict[str, dict[str, Any]]:
        """The labels of a rater by the id of the comparison.

        Args:
            rater: Name of the rater.
            principle: The principle that the rater was asked by; empty: the labels overall.
        """
        asked = (rater, principle)
        return {row["pair"]: row for row in self.rows() if _key(row)[:2] == asked}

    def add(self, *rows: Mapping[str, Any]) -> bool:
        """Add labels, except those that their rater has given before.

        Args:
            *rows: The labels, from :func:`make_row` or :func:`row_of`.

        Returns:
            Whether any was added.

        Raises:
            LimitReached: If the file cannot be written.
        """
        return self.append(*rows, key=_key)

    def undo(
        self, rater: str, principle: str = "", *, ranked: bool = False
    ) -> dict[str, Any] | None:
        """Remove the last label of a rater, or all labels of the last ranking.

        Args:
            rater: Name of the rater.
            principle: The principle that the rater was asked by; empty: a label overall.
            ranked: Whether it is a ranking.

        Returns:
            The label, or one of the ranking; None if the rater has none.
        """

        def last(rows: Sequence[Mapping[str, Any]]) -> list[int]:
            asked = (rater, principle)
            groups = {i: _group(r) for i, r in enumerate(rows) if _key(r)[:2] == asked}
            own = [i for i, group in groups.items() if bool(group) == ranked]
            return [i for i in own if ranked and groups[i] == groups[own[-1]]] or own[-1:]

        removed = self.remove(last)
        return removed[-1] if removed else None


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a label answers: who was asked, by which principle, about which comparison."""
    return row["rater"], row.get("principle", ""), row["pair"]


def _group(row: Mapping[str, Any]) -> str:
    return str(row.get("group", ""))


def _is_label(row: Mapping[str, Any]) -> bool:
    """Whether a row is one that :func:`row_of` made."""
    names = all(isinstance(row.get(name), str) for name in ("pair", "rater"))
    return names and row.get("p_first") in (0, 0.5, 1)
